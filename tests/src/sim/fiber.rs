//! Threads without an operating system: stacks that the simulator switches between by hand.
//!
//! A simulated server thread runs dmt's real [`dmt::call::Call`] on a fiber; where a real thread would sleep in the
//! kernel, the fiber [`suspend`]s, and the simulator goes on with whatever comes next in simulated time. So production
//! code that parks, spins and hands its turn over runs unchanged, on one thread, in an order that a seed decides.
//!
//! A fiber that is dropped is simply forgotten, as a killed thread is: nothing on its stack is dropped. Bodies must
//! therefore own nothing but plain data.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ptr;

/// Bytes of a stack, its guard page not counted.
const STACK_BYTES: usize = 128 * 1024;
const PAGE_BYTES: usize = 4096;

std::arch::global_asm!(
    // switch(save: *mut usize, load: usize): keeps what the ABI says a callee keeps, and changes stacks.
    ".global brolga_fiber_switch",
    "brolga_fiber_switch:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rdi], rsp",
    "mov rsp, rsi",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    // The first return address of a new stack; `prepare` put the argument into r12.
    ".global brolga_fiber_start",
    "brolga_fiber_start:",
    "mov rdi, r12",
    "call {entry}",
    "ud2",
    entry = sym entry,
);

unsafe extern "C" {
    fn brolga_fiber_switch(save: *mut usize, load: usize);
    fn brolga_fiber_start();
}

thread_local! {
    static CURRENT: Cell<*mut Context> = const { Cell::new(ptr::null_mut()) };
    static FREE_STACKS: RefCell<Vec<Stack>> = const { RefCell::new(Vec::new()) };
}

/// Why a fiber gave control back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspend {
    /// It sleeps on the futex word at this address, at the longest for so many nanoseconds.
    Wait(usize, Option<u64>),
    /// It computed for so many nanoseconds.
    Compute(u64),
    /// It has ended.
    Ended,
}

/// What fiber and simulator share while the fiber exists.
struct Context {
    outside: usize,
    inside: usize,
    reason: Suspend,
    body: Option<Box<dyn FnOnce()>>,
    panic: Option<Box<dyn Any + Send>>,
}

/// See the module.
pub struct Fiber {
    context: Box<Context>,
    stack: Option<Stack>,
}

struct Stack(*mut u8);

impl Stack {
    fn take() -> Self {
        FREE_STACKS.with_borrow_mut(Vec::pop).unwrap_or_else(Self::map)
    }

    fn map() -> Self {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping; its lowest page becomes the guard that catches an overflow.
        let base = unsafe {
            let base = libc::mmap(ptr::null_mut(), STACK_BYTES + PAGE_BYTES, protection, flags, -1, 0);
            assert!(base != libc::MAP_FAILED, "no memory for a simulated thread's stack");
            assert_eq!(libc::mprotect(base, PAGE_BYTES, libc::PROT_NONE), 0);
            base
        };
        Self(base.cast())
    }

    fn top(&self) -> *mut usize {
        // SAFETY: one past the mapping's last byte, a multiple of the page size.
        unsafe { self.0.add(STACK_BYTES + PAGE_BYTES).cast() }
    }
}

impl Fiber {
    /// A fiber that will run `body` at its first [`Fiber::resume`].
    pub fn new(body: Box<dyn FnOnce()>) -> Self {
        let stack = Stack::take();
        let mut context = Box::new(Context {
            outside: 0,
            inside: 0,
            reason: Suspend::Ended,
            body: Some(body),
            panic: None,
        });
        // SAFETY: the words are at the top of a stack that nobody uses. Their order is that of `switch`: six registers,
        // the return address, and two words that keep the stack aligned to 16 bytes at the `call` in `start`.
        unsafe {
            let sp = stack.top().sub(9);
            sp.write_bytes(0, 9);
            sp.add(3).write(ptr::from_mut(&mut *context) as usize);
            sp.add(6).write(brolga_fiber_start as *const () as usize);
            context.inside = sp as usize;
        }
        Self { context, stack: Some(stack) }
    }

    /// Runs the fiber until it suspends or ends. A panic in it goes on here.
    pub fn resume(&mut self) -> Suspend {
        let context: *mut Context = &mut *self.context;
        let before = CURRENT.replace(context);
        // SAFETY: `inside` is a stack pointer that `new` or the last switch out of this fiber left, and the stack is not
        // in use: only `resume` runs on it, and it needs `&mut self`.
        unsafe { brolga_fiber_switch(&raw mut (*context).outside, (*context).inside) };
        CURRENT.set(before);
        if let Some(panic) = self.context.panic.take() {
            std::panic::resume_unwind(panic);
        }
        self.context.reason
    }
}

impl Drop for Fiber {
    fn drop(&mut self) {
        if let Some(stack) = self.stack.take() {
            FREE_STACKS.with_borrow_mut(|free| free.push(stack));
        }
    }
}

/// Gives control back to the simulator until it resumes the calling fiber.
///
/// # Panics
/// Outside a fiber.
pub fn suspend(reason: Suspend) {
    let context = CURRENT.get();
    assert!(!context.is_null(), "only a fiber can suspend");
    // SAFETY: `resume` set the pointer to the context of the fiber that runs, which lives until it is back; `outside` was
    // just saved by it.
    unsafe {
        (*context).reason = reason;
        brolga_fiber_switch(&raw mut (*context).inside, (*context).outside);
    }
}

extern "C" fn entry(context: *mut Context) {
    // SAFETY: `new` put the address of the fiber's context here, and the simulator waits in `resume` while this runs.
    let body = unsafe { (*context).body.take() };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body.map(|body| body())));
    // SAFETY: as above.
    unsafe { (*context).panic = result.err() };
    loop {
        suspend(Suspend::Ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn fibers_take_turns_and_keep_their_locals() {
        let log = Rc::new(RefCell::new(Vec::new()));
        let mut fibers: Vec<Fiber> = (0..3u64)
            .map(|id| {
                let log = log.clone();
                Fiber::new(Box::new(move || {
                    for step in 0..3u64 {
                        log.borrow_mut().push((id, step));
                        suspend(Suspend::Compute(id * 10 + step));
                    }
                }))
            })
            .collect();
        for step in 0..3 {
            for (id, fiber) in fibers.iter_mut().enumerate() {
                assert_eq!(fiber.resume(), Suspend::Compute(id as u64 * 10 + step));
            }
        }
        assert!(fibers.iter_mut().all(|fiber| fiber.resume() == Suspend::Ended));
        assert_eq!(log.borrow()[..4], [(0, 0), (1, 0), (2, 0), (0, 1)]);
    }

    #[test]
    fn a_panic_comes_out_of_resume() {
        let mut fiber = Fiber::new(Box::new(|| panic!("inside")));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fiber.resume()));
        assert!(caught.is_err());
    }
}
