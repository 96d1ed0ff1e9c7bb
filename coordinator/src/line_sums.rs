//! Checksums of text files, line by line: a person can read such a file, and what is damaged in it is told by line and byte.
//!
//! The sums stand in a line of the file itself. Pure.

use std::fmt;

/// Sums of `body`'s lines, to be written into a line of the same file: the CRC-32 of each, and that of the sums themselves.
pub fn of(body: &[u8]) -> String {
    let mut text: String = lines(body).map(|line| crc(line) + " ").collect();
    text += &crc(text.as_bytes());
    text
}

/// Compares `body`, which begins `offset` bytes into its file, with what [`of`] gave for it.
pub fn check(body: &[u8], offset: usize, sums: &[u8]) -> Result<(), Damage> {
    let words: Vec<_> =
        sums.split(|&byte| byte == b' ').map(|word| word.escape_ascii().to_string()).collect();
    let (own, wanted) =
        words.split_last().map_or((String::new(), &[][..]), |(own, rest)| (own.clone(), rest));
    let before = &sums[..sums.len() - own.len().min(sums.len())];
    if own != crc(before) {
        return Err(Damage { line: None, offset: None, expected: own, found: crc(before) });
    }
    let mut at = offset;
    let mut found = 0;
    for (line, wanted) in lines(body).zip(wanted) {
        found += 1;
        if crc(line) != *wanted {
            return Err(Damage {
                line: Some(found),
                offset: Some(at),
                expected: wanted.clone(),
                found: crc(line),
            });
        }
        at += line.len();
    }
    let count = lines(body).count();
    match count == wanted.len() {
        true => Ok(()),
        false => Err(Damage {
            line: Some(found + 1),
            offset: Some(at),
            expected: format!("of {} lines", wanted.len()),
            found: format!("of {count}"),
        }),
    }
}

/// Lines with their ends.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split_inclusive(|&byte| byte == b'\n')
}

fn crc(bytes: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(bytes))
}

/// What is wrong first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which line of what has sums, from 1; `None` = the line of the sums itself.
    pub line: Option<usize>,
    /// Where it begins in the file.
    pub offset: Option<usize>,
    /// CRC.
    pub expected: String,
    /// CRC.
    pub found: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, offset, expected, found } = self;
        match (line, offset) {
            (Some(line), Some(offset)) => write!(f, "line {line}, byte {offset}: ")?,
            _ => f.write_str("the line of checksums: ")?,
        }
        write!(f, "expected CRC {expected}, found {found}")
    }
}

#[cfg(test)]
mod tests {
    use super::{check, of};

    #[test]
    fn each_flipped_bit_is_found_in_its_line() {
        let body = b"first\nsecond\n\nlast";
        let sums = of(body);
        check(body, 0, sums.as_bytes()).unwrap();
        for bit in 0..body.len() * 8 {
            let mut bad = body.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let damage = check(&bad, 100, sums.as_bytes()).unwrap_err();
            let line = body[..bit / 8].iter().filter(|&&byte| byte == b'\n').count() + 1;
            assert_eq!(damage.line, Some(line), "bit {bit}: {damage}");
        }
        for bit in 0..sums.len() * 8 {
            let mut bad = sums.clone().into_bytes();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(check(body, 0, &bad).is_err(), "bit {bit} of the sums");
        }
        for other in
            [&b"first\nsecond\n\n"[..], b"", b"first\nsecond\n\nlast\n", b"first\nsecond\n\nlast\nmore"]
        {
            assert!(check(other, 0, sums.as_bytes()).is_err(), "{other:?}");
        }
        assert!(check(b"", 0, b"").is_err());
    }
}
