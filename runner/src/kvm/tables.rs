// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Maps the stage 1 tables of a guest that was moved to a new VM, where none of its memory is mapped at stage
//! 2 yet.
//!
//! On a CPU with erratum 834220, under some kernels, a guest with translation on never executes anything
//! while its tables are not mapped at stage 2 (docs/decisions.md). So another vCPU, without translation,
//! touches the tables first.

use super::one_reg;
use crate::{guest::Error, memory::GuestMemory};
use dfr0_model::wire::{DOORBELL, RAM, RAM_SIZE, TABLES};
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::sync::atomic::Ordering::Relaxed;

/// The address of the code: the last page, which nothing else uses.
const CODE: u64 = RAM + RAM_SIZE as u64 - PAGE;
const PAGE: u64 = 0x1000;
/// The upper limit of pages that the tables of a payload have.
const PAGES: u64 = 16;

/// `LDR X2, [X0]; ADD X0, X0, #0x1000; CMP X0, X3; B.LO` to the first; `STR WZR, [X1]; B .`
const TOUCH: [u64; 3] = [0x9140_0400_f940_0002, 0x54ff_ffa3_eb03_001f, 0x1400_0000_b900_003f];

/// Has a vCPU of the VM, which has not run, touch each page of the tables.
pub fn touch(mut vcpu: VcpuFd, memory: &GuestMemory) -> Result<(), Error> {
    let words = memory
        .words(CODE, TOUCH.len())
        .ok_or_else(|| Error::Unfit("the guest's memory is too small".into()))?;
    for (word, code) in words.iter().zip(TOUCH) {
        word.store(code, Relaxed);
    }
    let start = [
        (one_reg::x(0), TABLES),
        (one_reg::x(1), DOORBELL),
        (one_reg::x(3), TABLES + PAGES * PAGE),
        (one_reg::PC, CODE),
    ];
    for (register, value) in start {
        vcpu.set_one_reg(register, &value.to_le_bytes()).map_err(|error| Error::Refused {
            register: one_reg::name(register),
            value,
            errno: error.errno(),
        })?;
    }
    loop {
        match vcpu.run() {
            Ok(VcpuExit::MmioWrite(DOORBELL, _)) => return Ok(()),
            Ok(exit) => return Err(Error::Unfit(format!("touching the guest's tables ended with {exit:?}"))),
            // The signal of an earlier deadline.
            Err(error) if error.errno() == nix::libc::EINTR => {}
            Err(error) => {
                return Err(Error::System {
                    what: "KVM_RUN that touches the guest's tables".into(),
                    source: error.into(),
                });
            }
        }
    }
}
