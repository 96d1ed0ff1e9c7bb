//! What the objects do: the specification that histories are held against.

use todc_utils::Specification;

/// Accounts of a bank.
pub const ACCOUNTS: usize = 4;
/// What is on each at first.
pub const BALANCE: i64 = 100;

/// What a client asks an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Register: stores a value.
    Write(u32),
    /// Register: stores a value and gives the one before.
    Swap(u32),
    /// Register: stores the second value if the first is there.
    Exchange(u32, u32),
    /// Register: its value.
    Read,
    /// Counter: adds to it and gives the sum.
    Add(i64),
    /// Counter: its value.
    Count,
    /// List: appends a value and gives the length.
    Append(u32),
    /// List: all its values.
    List,
    /// Bank: moves so much from one account to another, if it is there.
    Transfer {
        /// Whose it was.
        from: usize,
        /// Whose it is then.
        to: usize,
        /// How much.
        amount: i64,
    },
    /// Bank: what is on all accounts.
    Audit,
}

impl Request {
    /// Whether it changes nothing: if its answer is lost, nothing is known and nothing needs to be.
    pub fn only_looks(&self) -> bool {
        matches!(self, Self::Read | Self::Count | Self::List | Self::Audit)
    }
}

/// What an object answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done, nothing to say.
    Done,
    /// A register's value, if it has one.
    Value(Option<u32>),
    /// Whether it was done.
    Decided(bool),
    /// A number.
    Number(i64),
    /// A list's values.
    Values(Vec<u32>),
    /// What is on the accounts.
    Balances(Vec<i64>),
}

/// A request with its answer, if one came. Without one it may have been done at any time since, or never.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What was asked.
    pub request: Request,
    /// What came back.
    pub answer: Option<Answer>,
}

/// An object of any kind: what its kind does not use stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    value: Option<u32>,
    count: i64,
    list: Vec<u32>,
    balances: [i64; ACCOUNTS],
}

impl State {
    fn answer(&mut self, request: &Request) -> Answer {
        match *request {
            Request::Write(value) => {
                self.value = Some(value);
                Answer::Done
            }
            Request::Swap(value) => Answer::Value(self.value.replace(value)),
            Request::Exchange(old, new) => {
                let matches = self.value == Some(old);
                if matches {
                    self.value = Some(new);
                }
                Answer::Decided(matches)
            }
            Request::Read => Answer::Value(self.value),
            Request::Add(amount) => {
                self.count += amount;
                Answer::Number(self.count)
            }
            Request::Count => Answer::Number(self.count),
            Request::Append(value) => {
                self.list.push(value);
                Answer::Number(i64::try_from(self.list.len()).expect("a short list"))
            }
            Request::List => Answer::Values(self.list.clone()),
            Request::Transfer { from, to, amount } => {
                let enough = self.balances[from] >= amount;
                if enough {
                    self.balances[from] -= amount;
                    self.balances[to] += amount;
                }
                Answer::Decided(enough)
            }
            Request::Audit => Answer::Balances(self.balances.to_vec()),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Objects;

impl Specification for Objects {
    type State = State;
    type Operation = Operation;

    fn init() -> State {
        State { value: None, count: 0, list: Vec::new(), balances: [BALANCE; ACCOUNTS] }
    }

    fn apply(operation: &Operation, state: &State) -> (bool, State) {
        let mut after = state.clone();
        let answer = after.answer(&operation.request);
        let fits = operation.answer.as_ref().is_none_or(|seen| *seen == answer);
        (fits, if fits { after } else { state.clone() })
    }
}
