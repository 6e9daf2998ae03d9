// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Hardware breakpoints and watchpoints of the host's own: this thread has them as a debugged thread has a debugger's, and
//! KVM_RUN must leave them as they are. perf counts what they hit.

use crate::case::{Context, Stop};
use dfr0_model::{scenario::Scenario, wire::TARGET};
use perf_event_open_sys::{
    bindings::{
        HW_BREAKPOINT_LEN_4, HW_BREAKPOINT_LEN_8, HW_BREAKPOINT_W, HW_BREAKPOINT_X, PERF_ATTR_SIZE_VER1,
        PERF_FLAG_FD_CLOEXEC, PERF_TYPE_BREAKPOINT, perf_event_attr,
    },
    perf_event_open,
};
use std::{
    fs::File,
    hint::black_box,
    io::{self, Read},
    os::fd::FromRawFd,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// More than any CPU has.
const MOST: usize = 64;

/// What the thread has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Breakpoints.
    Breakpoint,
    /// Watchpoints.
    Watchpoint,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Breakpoint => "breakpoint",
            Self::Watchpoint => "watchpoint",
        }
    }

    /// The address that [`Self::hit`] hits.
    fn own_address(self) -> u64 {
        match self {
            Self::Breakpoint => landing as *const () as u64,
            Self::Watchpoint => WATCHED.as_ptr() as u64,
        }
    }

    /// Does once what hits a breakpoint or watchpoint at [`Self::own_address`].
    fn hit(self) {
        match self {
            Self::Breakpoint => _ = black_box(landing as extern "C" fn() -> u64)(),
            Self::Watchpoint => WATCHED.store(1, Relaxed),
        }
    }
}

static WATCHED: AtomicU64 = AtomicU64::new(0);

/// Returns what no other function does, so that none shares its code.
#[inline(never)]
extern "C" fn landing() -> u64 {
    black_box(0x6c61_6e64_696e_6700)
}

/// As many as the host gives this thread, all at one address.
struct Own(Vec<File>);

impl Own {
    fn at(kind: Kind, address: u64) -> io::Result<Self> {
        let mut own = Vec::new();
        while own.len() < MOST {
            match open(kind, address) {
                Ok(file) => own.push(file),
                // There are no more.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOSPC) && !own.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Self(own))
    }

    /// How often each was hit.
    fn counts(&self) -> io::Result<Vec<u64>> {
        let count = |mut file: &File| {
            let mut count = [0; size_of::<u64>()];
            file.read_exact(&mut count).map(|()| u64::from_ne_bytes(count))
        };
        self.0.iter().map(count).collect()
    }
}

fn open(kind: Kind, address: u64) -> io::Result<File> {
    let (bp_type, len) = match kind {
        Kind::Breakpoint => (HW_BREAKPOINT_X, HW_BREAKPOINT_LEN_4),
        Kind::Watchpoint => (HW_BREAKPOINT_W, HW_BREAKPOINT_LEN_8),
    };
    let mut attr = perf_event_attr {
        type_: PERF_TYPE_BREAKPOINT,
        size: PERF_ATTR_SIZE_VER1,
        bp_type,
        ..perf_event_attr::default()
    };
    attr.__bindgen_anon_3.bp_addr = address;
    attr.__bindgen_anon_4.bp_len = len.into();
    // Without these only root may have it.
    attr.set_exclude_kernel(1);
    attr.set_exclude_hv(1);
    // SAFETY: the kernel reads the attributes, of the size that they name, and nothing else.
    let fd = unsafe { perf_event_open(&mut attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC.into()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nothing else has it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

impl Context<'_> {
    /// Runs each scenario, and then hits this thread's own breakpoints or watchpoints once. perf must count the hit of each, and
    /// nothing of the guest's. On a busy machine a hit may count twice.
    pub fn check_before_a_hit(
        &mut self,
        kind: Kind,
        scenarios: impl IntoIterator<Item = Scenario>,
    ) -> Result<(), Stop> {
        for scenario in scenarios {
            // A count starts with zero, and what was lost comes back.
            let own = self.own(kind, kind.own_address())?;
            self.check(&scenario)?;
            let Some(there) = own else { continue };
            let hits = counted(&there)?;
            kind.hit();
            let after = counted(&there)?;
            self.count();
            let name = kind.name();
            if hits.iter().any(|hits| *hits != 0) {
                self.find(
                    format!("a guest hits a {name} of the host's own"),
                    format!("perf counts {hits:?} hits during this scenario:\n{scenario}"),
                );
            }
            if after.iter().zip(&hits).any(|(after, before)| after <= before) {
                self.find(
                    format!("a {name} of the host's own is lost when a guest has run"),
                    format!("perf counts {hits:?} hits before one and {after:?} after it. It follows this scenario:\n{scenario}"),
                );
            }
        }
        Ok(())
    }

    /// Runs scenarios while this thread has breakpoints at the address of a marker or watchpoints at [`TARGET`], which are
    /// the guest's addresses as much as this thread's.
    pub fn check_at_own(
        &mut self,
        kind: Kind,
        marker: u64,
        scenarios: impl IntoIterator<Item = Scenario>,
    ) -> Result<(), Stop> {
        let address = if kind == Kind::Breakpoint { marker } else { TARGET };
        let own = self.own(kind, address)?;
        let checked = scenarios.into_iter().try_for_each(|scenario| self.check(&scenario));
        drop(own);
        checked
    }

    /// `None` where nothing runs.
    fn own(&mut self, kind: Kind, address: u64) -> Result<Option<Own>, Stop> {
        if self.is_on_paper() {
            return Ok(None);
        }
        if self.host().is_bare() {
            return Stop::skip("needs KVM, and this is a bare CPU");
        }
        match Own::at(kind, address) {
            Ok(own) => Ok(Some(own)),
            Err(error) => Stop::skip(format!("this thread can have no {} of its own: {error}", kind.name())),
        }
    }
}

fn counted(own: &Own) -> Result<Vec<u64>, Stop> {
    let failed = |source| crate::guest::Error::System { what: "read of a perf event".into(), source };
    Ok(own.counts().map_err(failed)?)
}
