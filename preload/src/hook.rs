//! The `hook!` macro: one exported symbol, the function that it replaces, and its row in the table of hooks.
//!
//! A hook acts only if [`crate::tls::Tls::active`]; in every other state (before the constructor, without an arena, in
//! threads that dmt does not know, inside dmt) the generated guard calls the replaced function.

use core::ffi::{CStr, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};

/// One row of the table of hooks, in linker section `brolga_hooks`.
#[repr(C)]
pub struct Row {
    /// The symbol.
    pub name: &'static str,
    /// Path of the module that defines it.
    pub module: &'static str,
    /// Bytes of each argument.
    pub arguments: &'static [u8],
    /// Bytes of the result, if there is one.
    pub result: &'static [u8],
}

/// A symbol of libc (or libstdc++) behind ours, looked up at first use.
pub struct Real {
    name: &'static CStr,
    version: Option<&'static CStr>,
    address: AtomicPtr<c_void>,
}

impl Real {
    /// The symbol `name`, in `version` if there is one.
    pub const fn new(name: &'static CStr, version: Option<&'static CStr>) -> Self {
        Self { name, version, address: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// Its address.
    pub fn get(&self) -> *mut c_void {
        let known = self.address.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        let found = self.look_up();
        if found.is_null() {
            crate::fatal::die("libc has no function", self.name.to_bytes());
        }
        self.address.store(found, Ordering::Relaxed);
        found
    }

    fn look_up(&self) -> *mut c_void {
        let _section = crate::tls::Passthrough::enter();
        // A look-up that fails allocates its message, and an allocator calls hooks: only ask for what exists.
        match self.version {
            // SAFETY: both names are C strings; RTLD_NEXT means "behind this library".
            Some(version) => unsafe { libc::dlvsym(libc::RTLD_NEXT, self.name.as_ptr(), version.as_ptr()) },
            None => crate::dlsym::behind_us(self.name),
        }
    }
}

/// Version of a symbol whose older versions differ in behaviour, if `name` is such a one.
pub const fn version_of(name: &str) -> Option<&'static CStr> {
    const VERSIONED: [&[u8]; 6] = [
        b"pthread_cond_init",
        b"pthread_cond_destroy",
        b"pthread_cond_wait",
        b"pthread_cond_timedwait",
        b"pthread_cond_signal",
        b"pthread_cond_broadcast",
    ];
    let mut i = 0;
    while i < VERSIONED.len() {
        if same(VERSIONED[i], name.as_bytes()) {
            return Some(c"GLIBC_2.3.2");
        }
        i += 1;
    }
    None
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// Defines hooks; see the module.
#[macro_export]
macro_rules! hook {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$meta])*
        #[doc = concat!("Stands in for the library's `", stringify!($name), "`.")]
        ///
        /// # Safety
        /// As the function that it replaces.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C" fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            unsafe fn act($($arg: $ty),*) $(-> $ret)? $body
            $crate::guard!($name, $($arg),*);
            // SAFETY: forwarded promise.
            let result = unsafe { act($($arg),*) };
            $crate::call_ends!(sym $name::ROW $(, result as $ret)?);
            result
        }

        $crate::replaced! { fn $name($($arg: $ty),*) $(-> $ret)? }
    )*};
}

/// The guard of a hook: goes to the replaced function if hooks are not to act, and notes a call that is traced.
#[macro_export]
macro_rules! guard {
    ($name:ident, $($arg:ident),*) => {
        if !$crate::tls::current().plain() {
            if !$crate::tls::current().traced() {
                // SAFETY: the replaced function with the caller's own arguments.
                return unsafe { $name::real()($($arg),*) };
            }
            $crate::call_begins!(sym $name::ROW; $($arg),*);
        }
    };
}

/// A hook's row in the table, and the way to the function that it replaces: all of a hook but the function itself.
#[macro_export]
macro_rules! replaced {
    (fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?) => {
        #[doc = concat!("What `", stringify!($name), "` replaces.")]
        #[allow(unused_imports, non_snake_case)]
        pub mod $name {
            use super::*;
            static REAL: $crate::hook::Real = $crate::hook::Real::new(
                match core::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => panic!("symbol name"),
                },
                $crate::hook::version_of(stringify!($name)),
            );
            #[used]
            #[unsafe(link_section = "brolga_hooks")]
            pub(crate) static ROW: $crate::hook::Row = $crate::hook::Row {
                name: stringify!($name),
                module: module_path!(),
                arguments: &[$(size_of::<$ty>() as u8),*],
                result: &[$(size_of::<$ret>() as u8)?],
            };

            /// The replaced function.
            pub fn real() -> unsafe extern "C" fn($($ty),*) $(-> $ret)? {
                // SAFETY: libc's symbol of this name has this signature.
                unsafe { core::mem::transmute(REAL.get()) }
            }
        }
    };
}

unsafe extern "C" {
    #[link_name = "__start_brolga_hooks"]
    static FIRST: u8;
    #[link_name = "__stop_brolga_hooks"]
    static END: u8;
}

/// All hooks, in no particular order.
pub fn table() -> &'static [Row] {
    let (first, end) = ((&raw const FIRST).cast::<Row>(), (&raw const END).cast::<Row>());
    // SAFETY: the linker defines both symbols around the section, which holds nothing but rows.
    unsafe { core::slice::from_raw_parts(first, end.offset_from_unsigned(first)) }
}
