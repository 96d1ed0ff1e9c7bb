//! Random sequences of operations against a simple model.

use std::collections::VecDeque;

use proptest::prelude::*;

use crate::bounds::PIPE_BYTES;
use crate::file::abi::*;
use crate::file::tests::World;

/// One thing to do to one of the pipes.
#[derive(Clone, Debug)]
enum Step {
    Open(usize),
    Write(usize, usize),
    Read(usize, usize),
    CloseRead(usize),
    CloseWrite(usize),
    Watch(usize, bool),
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let pipe = 0..4usize;
    prop_oneof![
        pipe.clone().prop_map(Step::Open),
        (pipe.clone(), 0..20_000usize).prop_map(|(p, n)| Step::Write(p, n)),
        (pipe.clone(), 0..30_000usize).prop_map(|(p, n)| Step::Read(p, n)),
        pipe.clone().prop_map(Step::CloseRead),
        pipe.clone().prop_map(Step::CloseWrite),
        (pipe, any::<bool>()).prop_map(|(p, edge)| Step::Watch(p, edge)),
        Just(Step::Wait),
    ]
}

#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    reader: bool,
    writer: bool,
    /// Registered, and edge-triggered.
    watched: Option<bool>,
    news: bool,
}

struct Model {
    world: World,
    pipes: [Pipe; 4],
    next: u8,
}

const EPOLL: i32 = 3;

fn fds(pipe: usize) -> (i32, i32) {
    (10 + 2 * pipe as i32, 11 + 2 * pipe as i32)
}

impl Model {
    fn apply(&mut self, step: &Step) {
        let world = &self.world;
        match *step {
            Step::Open(p) if !self.pipes[p].reader && !self.pipes[p].writer => {
                let mut files = [0; 2];
                assert_eq!(world.call().pipe(O_NONBLOCK, &mut files), 0);
                world.install(fds(p).0, i64::from(files[0]));
                world.install(fds(p).1, i64::from(files[1]));
                self.pipes[p] = Pipe { reader: true, writer: true, ..Pipe::default() };
            }
            Step::Open(_) => {}
            Step::Write(p, n) => self.write(p, n),
            Step::Read(p, n) => self.read(p, n),
            Step::CloseRead(p) => {
                let closed = world.call().close_fd(fds(p).0);
                assert_eq!(closed, if self.pipes[p].reader { 0 } else { -EBADF });
                let pipe = &mut self.pipes[p];
                pipe.reader = false;
                pipe.bytes.clear();
                pipe.watched = None;
            }
            Step::CloseWrite(p) => {
                let closed = world.call().close_fd(fds(p).1);
                assert_eq!(closed, if self.pipes[p].writer { 0 } else { -EBADF });
                self.pipes[p].news |= self.pipes[p].writer;
                self.pipes[p].writer = false;
            }
            Step::Watch(p, edge) => {
                let pipe = &mut self.pipes[p];
                let events = POLLIN | if edge { EPOLLET } else { 0 };
                let event = EpollEvent { events, data: p as u64 };
                let added = world.call().epoll_ctl(EPOLL, EPOLL_CTL_ADD, fds(p).0, event);
                let expected = match pipe.watched {
                    _ if !pipe.reader => -EBADF,
                    Some(_) => -EEXIST,
                    None => 0,
                };
                assert_eq!(added, expected);
                if added == 0 {
                    (pipe.watched, pipe.news) = (Some(edge), true);
                }
            }
            Step::Wait => self.wait(),
        }
        let blocks: usize = self.pipes.iter().map(|p| p.bytes.len() / 4096 + 2).sum();
        assert!(self.world.kernel(|k| k.files.pool_used()) as usize <= blocks);
    }

    fn write(&mut self, p: usize, n: usize) {
        let data: Vec<u8> = (0..n).map(|i| self.next.wrapping_add(i as u8)).collect();
        let written = self.world.write(fds(p).1, &data);
        let pipe = &mut self.pipes[p];
        let room = PIPE_BYTES as usize - pipe.bytes.len();
        let fits = if n <= 4096 && room < n { 0 } else { room.min(n) };
        let expected = match fits {
            _ if !pipe.writer => -EBADF,
            _ if !pipe.reader => -EPIPE,
            0 if n > 0 => -EAGAIN,
            fits => fits as i64,
        };
        assert_eq!(written, expected);
        if written > 0 {
            pipe.bytes.extend(&data[..written as usize]);
            pipe.news = true;
            self.next = self.next.wrapping_add(written as u8);
        }
    }

    fn read(&mut self, p: usize, n: usize) {
        let got = self.world.read(fds(p).0, n);
        let pipe = &mut self.pipes[p];
        let expected = match pipe.bytes.len().min(n) {
            _ if !pipe.reader => Err(EBADF),
            0 if n > 0 && pipe.writer => Err(EAGAIN),
            len => Ok(pipe.bytes.drain(..len).collect::<Vec<u8>>()),
        };
        assert_eq!(got, expected);
    }

    fn wait(&mut self) {
        let mut events = [EpollEvent::default(); 8];
        let found = self.world.call().epoll_wait(EPOLL, &mut events, Some(0), None);
        let mut got: Vec<_> = events[..found as usize].iter().map(|e| ({ e.data }, { e.events })).collect();
        got.sort_unstable();
        let mut expected = Vec::new();
        for (p, pipe) in self.pipes.iter_mut().enumerate() {
            let Some(edge) = pipe.watched else { continue };
            let ready =
                if pipe.bytes.is_empty() { 0 } else { POLLIN } | if pipe.writer { 0 } else { POLLHUP };
            if ready != 0 && (!edge || pipe.news) {
                expected.push((p as u64, ready));
            }
            pipe.news = false;
        }
        assert_eq!(got, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pipes_and_epoll_do_what_the_model_does(steps in prop::collection::vec(step(), 1..120)) {
        let world = World::new();
        world.install(EPOLL, world.call().epoll_create());
        let mut model = Model { world, pipes: Default::default(), next: 0 };
        for step in &steps {
            model.apply(step);
        }
        for p in 0..4 {
            model.apply(&Step::CloseRead(p));
            model.apply(&Step::CloseWrite(p));
        }
        model.world.end(&[EPOLL]);
    }
}
