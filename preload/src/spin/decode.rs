//! The instructions that spin loops are made of: length, registers, memory. Anything else is unknown, and a loop with an
//! unknown instruction is no spin loop to us.

/// What an instruction does to the flow of control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Goes on behind it.
    Next,
    /// Jumps if the condition (the low four bits of its code) holds.
    Conditional(u8, u64),
    /// Jumps always.
    Jump(u64),
}

/// One instruction. Registers are bits, rax to r15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Bytes.
    pub length: u64,
    /// Registers that it reads, those of addresses included.
    pub reads: u16,
    /// Registers that it writes.
    pub writes: u16,
    /// Registers in the address of its memory operand.
    pub address: u16,
    /// It reads memory.
    pub loads: bool,
    /// It writes memory, other than by trying to take a lock.
    pub stores: bool,
    /// Where it goes.
    pub flow: Flow,
    /// Offset in it of an address that is relative to the next instruction, 0 if it has none. Not for jumps.
    pub relative: u64,
}

/// Bytes being decoded, and what the prefixes said.
struct Reader<'a> {
    code: &'a [u8],
    at: usize,
    rex: u8,
    wide16: bool,
    lock: bool,
    relative: usize,
}

/// An r/m operand with the register beside it.
struct Operands {
    /// Register number of the `reg` field.
    reg: u8,
    /// The field itself, where it extends the operation's code.
    extension: u8,
    /// Register number of the r/m operand, if it is one.
    register: Option<u8>,
    /// Registers of its address, if it is memory.
    address: u16,
}

const RAX: u16 = 1;
const RDX: u16 = 1 << 2;
const RCX: u16 = 1 << 1;

fn bit(register: u8) -> u16 {
    1 << register
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.code.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.at += bytes;
        (self.at <= self.code.len()).then_some(())
    }

    fn signed(&mut self, bytes: usize) -> Option<i64> {
        let from = self.at;
        self.skip(bytes)?;
        let mut value = [0; 4];
        value[..bytes].copy_from_slice(&self.code[from..self.at]);
        let value = i32::from_le_bytes(value);
        Some(if bytes == 1 { i64::from(value as i8) } else { i64::from(value) })
    }

    fn prefixes(&mut self) -> Option<(u8, bool)> {
        let mut repeat = false;
        loop {
            match self.byte()? {
                0x66 => self.wide16 = true,
                0xf0 => self.lock = true,
                0xf3 => repeat = true,
                0x2e | 0x3e => {}
                rex @ 0x40..=0x4f => {
                    self.rex = rex;
                    return Some((self.byte()?, repeat));
                }
                code => return Some((code, repeat)),
            }
        }
    }

    fn operands(&mut self, bytewise: bool) -> Option<Operands> {
        let modrm = self.byte()?;
        let (mode, reg, rm) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
        let (r, x, b) = (self.rex >> 2 & 1, self.rex >> 1 & 1, self.rex & 1);
        // Without a REX prefix the byte registers 4 to 7 are the second bytes of the first four.
        let number = |field: u8, high: u8| match field {
            4..=7 if bytewise && self.rex == 0 => field - 4,
            _ => field | high << 3,
        };
        let mut operands = Operands { reg: number(reg, r), extension: reg, register: None, address: 0 };
        if mode == 3 {
            operands.register = Some(number(rm, b));
            return Some(operands);
        }
        let mut base_free = mode == 0 && rm == 5;
        if rm == 4 {
            let sib = self.byte()?;
            let index = (sib >> 3 & 7) | x << 3;
            if index != 4 {
                operands.address |= bit(index);
            }
            base_free = mode == 0 && sib & 7 == 5;
            if !base_free {
                operands.address |= bit((sib & 7) | b << 3);
            }
        } else if base_free {
            self.relative = self.at;
        } else {
            operands.address |= bit(rm | b << 3);
        }
        self.skip(match mode {
            1 => 1,
            2 => 4,
            _ if base_free => 4,
            _ => 0,
        })?;
        Some(operands)
    }

    fn immediate(&mut self, bytewise: bool) -> Option<()> {
        self.skip(if bytewise {
            1
        } else if self.wide16 {
            2
        } else {
            4
        })
    }
}

impl Instruction {
    fn plain(reads: u16, writes: u16) -> Self {
        Self {
            length: 0,
            reads,
            writes,
            address: 0,
            loads: false,
            stores: false,
            flow: Flow::Next,
            relative: 0,
        }
    }

    fn jump(flow: Flow) -> Self {
        Self { flow, ..Self::plain(0, 0) }
    }

    /// An operation with an r/m operand that it reads and writes as told, besides registers.
    fn with(operands: &Operands, reads_it: bool, writes_it: bool, reads: u16, writes: u16) -> Self {
        let mut this = Self::plain(reads | operands.address, writes);
        match operands.register {
            Some(register) => {
                this.reads |= if reads_it { bit(register) } else { 0 };
                this.writes |= if writes_it { bit(register) } else { 0 };
            }
            None => {
                this.address = operands.address;
                (this.loads, this.stores) = (reads_it, writes_it);
            }
        }
        this
    }
}

/// The instruction that `code`, which lies at address `at`, starts with.
pub fn decode(code: &[u8], at: u64) -> Option<Instruction> {
    let mut r = Reader { code, at: 0, rex: 0, wide16: false, lock: false, relative: 0 };
    let (code, repeat) = r.prefixes()?;
    let mut found = match code {
        0x0f => two_bytes(&mut r, at)?,
        0x00..=0x3f => arithmetic(&mut r, code)?,
        0x70..=0x7f | 0xeb | 0xe9 => branch(&mut r, code, at)?,
        0x90 => Instruction::plain(0, 0),
        _ => one_byte(&mut r, code)?,
    };
    if repeat && code != 0x90 || r.lock && !found.loads {
        return None;
    }
    (found.length, found.relative) = (r.at as u64, r.relative as u64);
    Some(found)
}

fn branch(r: &mut Reader<'_>, code: u8, at: u64) -> Option<Instruction> {
    let offset = r.signed(if code == 0xe9 { 4 } else { 1 })?;
    let target = at.wrapping_add(r.at as u64).wrapping_add_signed(offset);
    Some(Instruction::jump(if code < 0x80 {
        Flow::Conditional(code & 15, target)
    } else {
        Flow::Jump(target)
    }))
}

fn arithmetic(r: &mut Reader<'_>, code: u8) -> Option<Instruction> {
    let (compares, form) = (code >> 3 == 7, code & 7);
    if form >= 6 {
        return None;
    }
    let bytewise = form & 1 == 0;
    if form >= 4 {
        r.immediate(bytewise)?;
        return Some(Instruction::plain(RAX, if compares { 0 } else { RAX }));
    }
    let o = r.operands(bytewise)?;
    let own = bit(o.reg);
    // A register xored with or subtracted from itself is a constant.
    if matches!(code >> 3, 5 | 6) && o.register == Some(o.reg) {
        return Some(Instruction::plain(0, own));
    }
    Some(if form < 2 {
        Instruction::with(&o, true, !compares, own, 0)
    } else {
        Instruction::with(&o, true, false, own, if compares { 0 } else { own })
    })
}

fn one_byte(r: &mut Reader<'_>, code: u8) -> Option<Instruction> {
    let bytewise = code & 1 == 0;
    Some(match code {
        0x63 | 0x8a | 0x8b => {
            let o = r.operands(code == 0x8a)?;
            Instruction::with(&o, true, false, 0, bit(o.reg))
        }
        0x69 | 0x6b => {
            let o = r.operands(false)?;
            r.immediate(code == 0x6b)?;
            Instruction::with(&o, true, false, 0, bit(o.reg))
        }
        0x80 | 0x81 | 0x83 => {
            let o = r.operands(code == 0x80)?;
            r.immediate(code != 0x81)?;
            Instruction::with(&o, true, o.extension != 7, 0, 0)
        }
        0x84 | 0x85 => {
            let o = r.operands(bytewise)?;
            Instruction::with(&o, true, false, bit(o.reg), 0)
        }
        0x86 | 0x87 => {
            let o = r.operands(bytewise)?;
            // With memory it is an attempt to take a lock: what it stores is there already while it fails.
            Instruction::with(&o, true, o.register.is_some(), bit(o.reg), bit(o.reg))
        }
        0x88 | 0x89 => {
            let o = r.operands(bytewise)?;
            Instruction::with(&o, false, true, bit(o.reg), 0)
        }
        0x8d => {
            let o = r.operands(false)?;
            Instruction::plain(o.address, bit(o.reg))
        }
        0x98 => Instruction::plain(RAX, RAX),
        0x99 => Instruction::plain(RAX, RDX),
        0xa8 | 0xa9 => {
            r.immediate(bytewise)?;
            Instruction::plain(RAX, 0)
        }
        0xb0..=0xbf => return constant(r, code),
        0xc0 | 0xc1 | 0xd0 | 0xd1 | 0xd2 | 0xd3 => {
            let o = r.operands(bytewise)?;
            r.skip(usize::from(code < 0xd0))?;
            Instruction::with(&o, true, true, if code >= 0xd2 { RCX } else { 0 }, 0)
        }
        0xc6 | 0xc7 => {
            let o = r.operands(bytewise)?;
            r.immediate(bytewise)?;
            Instruction::with(&o, false, true, 0, 0)
        }
        0xf6 | 0xf7 => {
            let o = r.operands(bytewise)?;
            match o.extension {
                0 | 1 => {
                    r.immediate(bytewise)?;
                    Instruction::with(&o, true, false, 0, 0)
                }
                2 | 3 => Instruction::with(&o, true, true, 0, 0),
                _ => return None,
            }
        }
        0xfe | 0xff => {
            let o = r.operands(bytewise)?;
            (o.extension < 2).then_some(())?;
            Instruction::with(&o, true, true, 0, 0)
        }
        _ => return None,
    })
}

fn constant(r: &mut Reader<'_>, code: u8) -> Option<Instruction> {
    let (bytewise, wide) = (code < 0xb8, r.rex & 8 != 0);
    if wide && !bytewise {
        r.skip(8)?;
    } else {
        r.immediate(bytewise)?;
    }
    let field = code & 7;
    let register = if bytewise && r.rex == 0 && field >= 4 { field - 4 } else { field | (r.rex & 1) << 3 };
    Some(Instruction::plain(0, bit(register)))
}

fn two_bytes(r: &mut Reader<'_>, at: u64) -> Option<Instruction> {
    let code = r.byte()?;
    Some(match code {
        0x1f => {
            r.operands(false)?;
            Instruction::plain(0, 0)
        }
        0x40..=0x4f => {
            let o = r.operands(false)?;
            Instruction::with(&o, true, false, bit(o.reg), bit(o.reg))
        }
        0x80..=0x8f => {
            let offset = r.signed(4)?;
            let target = at.wrapping_add(r.at as u64).wrapping_add_signed(offset);
            Instruction::jump(Flow::Conditional(code & 15, target))
        }
        0x90..=0x9f => {
            let o = r.operands(true)?;
            Instruction::with(&o, false, true, 0, 0)
        }
        0xa3 => {
            let o = r.operands(false)?;
            // With memory it may read far from its operand.
            o.register?;
            Instruction::with(&o, true, false, bit(o.reg), 0)
        }
        0xae => {
            // Fences.
            let o = r.operands(false)?;
            (o.register.is_some() && o.extension >= 5).then_some(())?;
            Instruction::plain(0, 0)
        }
        0xaf | 0xb6 | 0xb7 | 0xbe | 0xbf => {
            let o = r.operands(matches!(code, 0xb6 | 0xbe))?;
            let reads = if code == 0xaf { bit(o.reg) } else { 0 };
            Instruction::with(&o, true, false, reads, bit(o.reg))
        }
        0xb0 | 0xb1 => {
            // An attempt to take a lock: it stores nothing while it fails.
            let o = r.operands(code == 0xb0)?;
            Instruction::with(&o, true, o.register.is_some(), bit(o.reg) | RAX, RAX)
        }
        0xba => {
            let o = r.operands(false)?;
            r.skip(1)?;
            (o.extension == 4).then_some(())?;
            Instruction::with(&o, true, false, 0, 0)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
