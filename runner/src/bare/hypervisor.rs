// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! A hypervisor at EL2 of a bare CPU.
//!
//! It has memory of its own after the payload's.

use super::{
    boot::{self, PAGE, UARTDR},
    cpu::{Bare, Emulator},
};
use crate::{
    guest::{Death, Error},
    nested::{self, Home},
};
use dfr0_model::{
    nested::{Event, Visit, pe::Pe},
    pstate,
    wire::{Bell, RAM, RAM_SIZE},
};
use std::time::Duration;

const HOME: Home = Home { base: RAM + RAM_SIZE as u64, word: Bell::End as u32, bell: UARTDR, exit: None };
/// PSTATE of the hypervisor: EL2h, and everything masked.
const PSTATE: u64 = pstate::EL2H | pstate::AIF | pstate::D;

impl Bare {
    /// Lets a hypervisor on this CPU make these visits; it may run for `deadline`.
    pub fn visit(&self, pe: &Pe, visits: &[Visit], deadline: Duration) -> Result<Vec<Event>, Error> {
        self.emulator.borrow_mut().visit(pe, visits, deadline)
    }
}

impl Emulator {
    fn visit(&mut self, pe: &Pe, visits: &[Visit], deadline: Duration) -> Result<Vec<Event>, Error> {
        let composed = nested::compose(pe, visits, HOME).ok_or_else(nested::too_many)?;
        let mut memory = self.reset()?;
        let last_page = RAM + memory.len() as u64 - PAGE;
        let fits = HOME.base + nested::SIZE <= last_page - PAGE
            && memory.write_code(&nested::fixed(HOME))
            && memory.write_code(&[composed.staged])
            && memory.write(last_page, &boot::code(HOME.base + nested::START, PSTATE, 0, 0));
        if !fits {
            return Err(Error::Unfit("the bare CPU's memory has no room for a hypervisor".into()));
        }
        self.qmp.cont()?;
        // The bell of the start, and that after the visits. Nothing happens between the two.
        let bells = [self.hear(deadline)?, self.hear(deadline)?];
        if bells != [Some(Bell::End as u8); 2] {
            let registers = self.qmp.registers().unwrap_or_default();
            let reason = format!("the hypervisor did not come back within {deadline:?}");
            return Err(Error::Died(Box::new(Death { reason, registers })));
        }
        nested::events(&memory, HOME.base, &composed.instructions).ok_or_else(nested::too_many)
    }
}
