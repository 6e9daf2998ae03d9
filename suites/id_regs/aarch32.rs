// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! DBGDIDR, which tells a guest in AArch32 about the VM's debug registers.

use super::values::lower;
use dfr0_model::{
    aarch32::{DBGDIDR, Event, Op},
    dfr0::{BRPS, CTX_CMPS, DEBUGVER, WRPS},
    id_write::Answer,
    rule,
    sysreg::ID_AA64DFR0_EL1,
};
use dfr0_runner::{
    case::{Case, Context, Stop},
    plain::{Features, PlainVm, Reads},
};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("aarch32.dbgdidr", &rule::DBGDIDR_IS_DFR0, |cx| {
            let mut vm = aarch32(cx)?;
            dbgdidr_agrees(cx, &mut vm)
        }),
        Case::new("aarch32.dbgdidr_rewritten", &rule::DBGDIDR_IS_DFR0, rewritten),
    ]
}

fn aarch32(cx: &Context<'_>) -> Result<PlainVm, Stop> {
    let mut vm = cx.plain_vm(1, Features::AArch32, Reads::A32(vec![Op::Read(DBGDIDR)]))?;
    vm.init(0)?;
    Ok(vm)
}

/// Each value that KVM accepts of each field that DBGDIDR shows, and all fields at their least values.
fn rewritten(cx: &mut Context<'_>) -> Result<(), Stop> {
    let mut any = false;
    for field in [&WRPS, &DEBUGVER, &BRPS, &CTX_CMPS] {
        for value in (0..16).filter(|value| field.is_architected(*value)) {
            let mut vm = aarch32(cx)?;
            let default = vm.read(0, ID_AA64DFR0_EL1)?;
            let other = field.with(default, value);
            if other != default && vm.set(0, ID_AA64DFR0_EL1, other)? == Answer::Accepted {
                any = true;
                dbgdidr_agrees(cx, &mut vm)?;
            }
        }
    }
    if !any {
        return Stop::skip("this kernel does not let userspace change a field that DBGDIDR shows");
    }
    let mut vm = aarch32(cx)?;
    lower(&vm, 0)?;
    dbgdidr_agrees(cx, &mut vm)
}

fn dbgdidr_agrees(cx: &mut Context<'_>, vm: &mut PlainVm) -> Result<(), Stop> {
    let register = vm.read(0, ID_AA64DFR0_EL1)?;
    let dbgdidr = match vm.executes(0)?.as_slice() {
        [Event::Value(dbgdidr)] => *dbgdidr,
        _ => {
            cx.count();
            cx.find("DBGDIDR: UNDEFINED".into(), "the guest took an exception".to_owned());
            return Ok(());
        }
    };
    for (name, lsb, field) in
        [("WRPs", 28, &WRPS), ("BRPs", 24, &BRPS), ("CTX_CMPs", 20, &CTX_CMPS), ("Version", 16, &DEBUGVER)]
    {
        cx.count();
        if (dbgdidr >> lsb & 0xf) as u8 != field.get(register) {
            cx.find(
                format!("DBGDIDR.{name} is not ID_AA64DFR0_EL1.{}", field.name),
                format!("DBGDIDR {dbgdidr:#x}, ID_AA64DFR0_EL1 {register:#x}"),
            );
        }
    }
    Ok(())
}
