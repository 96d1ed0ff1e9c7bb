//! Families of calls. Which numbers one answers is written down by the same line that answers them, so that the table of
//! classes can be held against it.

/// Defines the function that carries out a family's calls, `None` for all others, and `NUMBERS`: what it answers whatever the
/// arguments are. An arm ends with a comma.
#[macro_export]
macro_rules! family {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident($number:ident, $a:ident) {
        $($($($part:ident)::+)|+ $(if $condition:expr)? => $answer:expr,)*
    }) => {
        /// Numbers of the calls that this family answers whatever their arguments are.
        #[cfg(test)]
        $vis const NUMBERS: &[&[i64]] = &[$($crate::family!(@ [$($($part)::+),+] $(if $condition)?)),*];

        $(#[$meta])*
        ///
        /// # Safety
        /// As the system calls.
        $vis unsafe fn $name($number: i64, $a: [usize; 6]) -> Option<isize> {
            // SAFETY: forwarded promise, for every arm.
            Some(unsafe {
                match $number {
                    $($($($part)::+)|+ $(if $condition)? => $answer,)*
                    _ => return None,
                }
            })
        }
    };
    (@ [$($number:path),+]) => { &[$($number),+] };
    (@ [$($number:path),+] if $condition:expr) => { &[] };
}

/// Defines the function that asks one family after the other, and for the test the numbers of all.
#[macro_export]
macro_rules! families {
    ($(#[$meta:meta])* unsafe fn $name:ident($number:ident, $a:ident) = $own:ident, $($($part:ident)::+),+) => {
        #[cfg(test)]
        pub const HANDLED: &[&[&[i64]]] = &[NUMBERS, $($($part)::+::NUMBERS),+];

        $(#[$meta])*
        unsafe fn $name($number: i64, $a: [usize; 6]) -> Option<isize> {
            // SAFETY: forwarded promise, for every family.
            unsafe { $own($number, $a)$(.or_else(|| $($part)::+::call($number, $a)))+ }
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::calls::HANDLED;
    use crate::syscalls::{Class, TABLE, class};

    /// What the SIGSYS handler answers before it asks for a class: it needs the registers of the caller.
    const OF_THE_HANDLER: [i64; 3] = [libc::SYS_clone, libc::SYS_fork, libc::SYS_vfork];

    fn handled() -> impl Iterator<Item = i64> {
        HANDLED.iter().flat_map(|family| family.iter()).flat_map(|arm| arm.iter()).copied()
    }

    #[test]
    fn every_call_that_is_scheduled_or_emulated_is_answered() {
        for (number, name, class) in TABLE {
            if let Class::Scheduled | Class::Emulated = class {
                let number = i64::from(*number);
                let answered = OF_THE_HANDLER.contains(&number) || handled().any(|other| other == number);
                assert!(answered, "no family answers {name} ({number}): it is refused, so its class is, too");
            }
        }
    }

    #[test]
    fn every_answer_is_to_a_call_that_comes_here() {
        for number in handled() {
            let known = class(usize::try_from(number).expect("a number"));
            let reached = matches!(known, Some((_, Class::Scheduled | Class::Emulated)));
            assert!(reached, "call {number} has an answer, and its class lets it never get there");
        }
    }

    #[test]
    fn no_call_is_answered_twice() {
        let mut all = [0u8; crate::syscalls::LIMIT];
        for number in handled() {
            all[usize::try_from(number).expect("a number")] += 1;
        }
        assert_eq!(
            all.iter().position(|&count| count > 1),
            None,
            "two families answer a call of this number"
        );
    }
}
