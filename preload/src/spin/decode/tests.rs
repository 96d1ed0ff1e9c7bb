use super::{Flow, Instruction, decode};

fn one(bytes: &[u8]) -> Instruction {
    let found = decode(bytes, 0x1000).expect("known");
    assert_eq!(found.length, bytes.len() as u64, "{bytes:02x?}");
    found
}

#[test]
fn lengths_and_operands() {
    // mov 0x0(%rbp),%rdx
    let load = one(&[0x48, 0x8b, 0x55, 0x00]);
    assert_eq!((load.reads, load.writes, load.address), (1 << 5, 1 << 2, 1 << 5));
    assert!(load.loads && !load.stores);
    // mov 0x1ba158(%rip),%esi
    let fixed = one(&[0x8b, 0x35, 0x58, 0xa1, 0x1b, 0x00]);
    assert!(fixed.loads && fixed.address == 0 && fixed.writes == 1 << 6);
    assert_eq!((fixed.relative, load.relative), (2, 0));
    // mov -0x8(%r12,%r13,8),%r9
    let far = one(&[0x4f, 0x8b, 0x4c, 0xec, 0xf8]);
    assert_eq!((far.address, far.writes), (1 << 12 | 1 << 13, 1 << 9));
    // xor %ecx,%ecx; sub $1,%eax; lea 0x1cf4f4(%rip),%rdx; cmpb $0,(%rdi)
    assert_eq!((one(&[0x31, 0xc9]).reads, one(&[0x31, 0xc9]).writes), (0, 2));
    assert_eq!((one(&[0x83, 0xe8, 0x01]).reads, one(&[0x83, 0xe8, 0x01]).writes), (1, 1));
    assert!(!one(&[0x48, 0x8d, 0x15, 0xf4, 0xf4, 0x1c, 0x00]).loads);
    assert!(one(&[0x80, 0x3f, 0x00]).loads && !one(&[0x80, 0x3f, 0x00]).stores);
    // mov %eax,(%rdi); addl $1,-4(%rbp)
    assert!(one(&[0x89, 0x07]).stores && one(&[0x83, 0x45, 0xfc, 0x01]).stores);
    // pause; nopw 0x0(%rax,%rax,1); movabs $1,%rax; test $1,%ah is that of rax
    one(&[0xf3, 0x90]);
    one(&[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00]);
    one(&[0x48, 0xb8, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(one(&[0xf6, 0xc4, 0x01]).reads, 1);
    // lock cmpxchg %ecx,(%rdi) and xchg %eax,(%rdi) only try
    assert!(!one(&[0xf0, 0x0f, 0xb1, 0x0f]).stores && !one(&[0x87, 0x07]).stores);
}

#[test]
fn branches() {
    assert_eq!(one(&[0x74, 0xf2]).flow, Flow::Conditional(4, 0xff4));
    assert_eq!(one(&[0x0f, 0x85, 0xfa, 0xff, 0xff, 0xff]).flow, Flow::Conditional(5, 0x1000));
    assert_eq!(one(&[0xeb, 0xfe]).flow, Flow::Jump(0x1000));
}

#[test]
fn others_are_unknown() {
    for bytes in
        [&[0xe8, 0, 0, 0, 0][..], &[0xc3], &[0x0f, 0x05], &[0x0f, 0x31], &[0xf3, 0xa4], &[0x55], &[0x8b]]
    {
        assert_eq!(decode(bytes, 0), None, "{bytes:02x?}");
    }
    assert_eq!(decode(&[0xf0, 0x01, 0xc8], 0), None, "a lock prefix belongs to memory");
}
