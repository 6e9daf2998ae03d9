// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! SHA-256, as `sha256sum` prints it.

use std::io::{ErrorKind, Read, Result};

use sha2::{Digest, Sha256};

/// The digest of everything that `bytes` contains.
pub fn sha256(mut bytes: impl Read) -> Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = [0; 1 << 16];
    loop {
        match bytes.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            Ok(size) => hash.update(&buffer[..size]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_sha256sum() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&b"abc"[..]).unwrap(), abc);
    }
}
