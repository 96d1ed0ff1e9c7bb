//! Key files: PEM, behind a line of checksums of the other lines, which readers of PEM skip.

use std::fs;
use std::path::Path;

use crate::line_sums;

/// Begins the line of checksums.
const LABEL: &str = "brolga-checksums: ";
/// Begins PEM that somebody else made, without checksums.
const BEGIN: &[u8] = b"-----BEGIN ";

/// The text of a key file.
pub fn with_sums(pem: &str) -> String {
    format!("{LABEL}{}\n{pem}", line_sums::of(pem.as_bytes()))
}

/// Reads a key file; says what is wrong with it.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    check(&bytes).map(|()| bytes)
}

fn check(bytes: &[u8]) -> Result<(), String> {
    if bytes.starts_with(BEGIN) {
        return Ok(());
    }
    let end = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
    let (head, body) = bytes.split_at(end);
    let sums = head.strip_prefix(LABEL.as_bytes()).and_then(|head| head.strip_suffix(b"\n"));
    let Some(sums) = sums else {
        let (label, begin) = (LABEL.trim_end(), BEGIN.escape_ascii());
        return Err(format!(
            "line 1, byte 0: expected {label:?} or \"{begin}\", found neither: it is no key, or damaged"
        ));
    };
    line_sums::check(body, end, sums).map_err(|damage| match damage.line {
        Some(line) => line_sums::Damage { line: Some(line + 1), ..damage }.to_string(),
        None => damage.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::{check, with_sums};

    #[test]
    fn each_flipped_bit_of_a_key_is_found() {
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB\nAAAA\n-----END CERTIFICATE-----\n";
        check(pem.as_bytes()).unwrap();
        let good = with_sums(pem).into_bytes();
        check(&good).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let error = check(&bad).unwrap_err();
            assert!(error.contains("expected") && error.contains("found"), "bit {bit}: {error}");
        }
    }
}
