//! The network between replicas: delays, partitions of both kinds, connections that break and come back.

use super::rng::Rng;

/// How badly messages fare.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Percent that are lost.
    pub drop: u64,
    /// Percent that come twice.
    pub duplicate: u64,
    /// Percent that are overtaken by later ones.
    pub reorder: u64,
}

/// One direction between two replicas.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// Messages vanish until then.
    blocked_until: u64,
    /// When the last message in order arrives.
    last: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Network {
    replicas: usize,
    delay: u64,
    links: Vec<Link>,
    /// Connection between a pair: its number while it stands. Messages of an older one are lost.
    connections: Vec<Option<u64>>,
    next_connection: u64,
    /// See [`Weather`].
    pub weather: Weather,
}

impl Network {
    /// Nobody is connected yet.
    pub fn new(replicas: usize, delay: u64) -> Self {
        Self {
            replicas,
            delay,
            links: vec![Link::default(); replicas * replicas],
            connections: vec![None; replicas * replicas],
            next_connection: 1,
            weather: Weather::default(),
        }
    }

    fn pair(&self, a: usize, b: usize) -> usize {
        a.min(b) * self.replicas + a.max(b)
    }

    /// A message's way takes this long.
    pub fn delay(&self, rng: &mut Rng) -> u64 {
        let tail = if rng.percent(3) { self.delay * 10 } else { 0 };
        rng.between(self.delay / 2, self.delay * 3 / 2) + rng.below(tail + 1)
    }

    /// When copies of a message sent at `now` arrive.
    pub fn arrivals(&mut self, from: usize, to: usize, now: u64, rng: &mut Rng) -> Vec<u64> {
        let at = now + self.delay(rng);
        let link = &mut self.links[from * self.replicas + to];
        if now < link.blocked_until || rng.percent(self.weather.drop) {
            return Vec::new();
        }
        if rng.percent(self.weather.reorder) {
            return vec![at + rng.below(self.delay * 20)];
        }
        link.last = at.max(link.last + 1);
        let mut arrivals = vec![link.last];
        if rng.percent(self.weather.duplicate) {
            arrivals.push(link.last + rng.below(self.delay * 20));
        }
        arrivals
    }

    /// Messages from `from` to `to` vanish until `until`.
    pub fn block(&mut self, from: usize, to: usize, until: u64) {
        let link = &mut self.links[from * self.replicas + to];
        link.blocked_until = link.blocked_until.max(until);
    }

    /// Whatever was in the way between the two is gone.
    pub fn unblock(&mut self, a: usize, b: usize) {
        self.links[a * self.replicas + b].blocked_until = 0;
        self.links[b * self.replicas + a].blocked_until = 0;
    }

    /// True if messages pass in both directions.
    pub fn passes(&self, a: usize, b: usize, now: u64) -> bool {
        let open = |from: usize, to: usize| self.links[from * self.replicas + to].blocked_until <= now;
        open(a, b) && open(b, a)
    }

    /// The connection between the two, if it stands.
    pub fn connection(&self, a: usize, b: usize) -> Option<u64> {
        self.connections[self.pair(a, b)]
    }

    /// Connects the two.
    pub fn connect(&mut self, a: usize, b: usize) {
        let pair = self.pair(a, b);
        self.connections[pair] = Some(self.next_connection);
        self.next_connection += 1;
    }

    /// Breaks their connection; false if there was none.
    pub fn disconnect(&mut self, a: usize, b: usize) -> bool {
        let pair = self.pair(a, b);
        self.connections[pair].take().is_some()
    }

    /// Good weather everywhere, from now on.
    pub fn heal(&mut self) {
        self.weather = Weather::default();
        for link in &mut self.links {
            link.blocked_until = 0;
        }
    }
}
