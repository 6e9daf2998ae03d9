// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

//! Guests that do not run the payload: their code is composed of a scenario's operations, and they tell userspace what
//! happened by stores to addresses without memory.
//!
//! All code is written before the first entry: userspace cannot change code that a guest without caches has already
//! fetched, and cannot reach the memory of a protected VM at all. For the same reasons the guest keeps its log in its memory
//! and tells it word by word at the end.

use dfr0_model::wire::DOORBELL;

/// A store here lets userspace do its next operations.
pub(crate) const EXIT: u64 = DOORBELL;
/// A store here is the next word of the log.
pub(crate) const WORD: u64 = DOORBELL + 8;
/// A store here ends the program.
pub(crate) const END: u64 = DOORBELL + 16;
/// A store here reports an exception that no operation may cause.
pub(crate) const UNEXPECTED: u64 = DOORBELL + 24;

/// An operation of a scenario whose code is composed.
pub(crate) trait Operation: Copy {
    /// Userspace does it, or the guest exits to userspace.
    fn is_userspaces(&self) -> bool;
}

impl Operation for dfr0_model::aarch32::Op {
    fn is_userspaces(&self) -> bool {
        (*self).is_userspaces()
    }
}

impl Operation for dfr0_model::protected::Op {
    fn is_userspaces(&self) -> bool {
        (*self).is_userspaces()
    }
}

/// The operations that the guest executes. Of consecutive operations of userspace it executes only the first,
/// as an exit for all of them. Userspace does those at the start before the guest runs.
pub(crate) fn guests<O: Operation>(ops: &[O]) -> impl Iterator<Item = O> {
    let before = std::iter::once(true).chain(ops.iter().map(Operation::is_userspaces));
    ops.iter().zip(before).filter(|(op, after)| !(op.is_userspaces() && *after)).map(|(op, _)| *op)
}

/// The number of userspace's operations at the start of these.
pub(crate) fn userspaces<O: Operation>(ops: &[O]) -> usize {
    ops.iter().take_while(|op| op.is_userspaces()).count()
}

/// The events in the order of the operations; `None` if there is not one for each.
pub(crate) fn in_order<O: Operation, E>(ops: &[O], userspaces: Vec<E>, guests: Vec<E>) -> Option<Vec<E>> {
    let (mut userspaces, mut guests) = (userspaces.into_iter(), guests.into_iter());
    let next = |op: &O| if op.is_userspaces() { userspaces.next() } else { guests.next() };
    let events: Option<Vec<E>> = ops.iter().map(next).collect();
    events.filter(|_| guests.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfr0_model::{aarch32::Op, sysreg::MDSCR_EL1};

    const GET: Op = Op::Get(MDSCR_EL1);

    #[test]
    fn the_guest_exits_once_for_consecutive_operations_of_userspace() {
        let ops = [GET, Op::Exit, Op::Isb, GET, GET, Op::Exit, Op::Isb, Op::Exit];
        assert_eq!(guests(&ops).collect::<Vec<_>>(), [Op::Isb, GET, Op::Isb, Op::Exit]);
        assert_eq!(userspaces(&ops), 2);
        assert_eq!(userspaces(&ops[3..]), 3);
        assert_eq!(userspaces(&ops[2..]), 0);
    }

    #[test]
    fn there_is_one_event_for_each_operation() {
        let ops = [GET, Op::Isb, GET, Op::Isb];
        assert_eq!(in_order(&ops, vec![1, 3], vec![2, 4]), Some(vec![1, 2, 3, 4]));
        assert_eq!(in_order(&ops, vec![1, 3], vec![2]), None);
        assert_eq!(in_order(&ops, vec![1, 3], vec![2, 4, 5]), None);
    }
}
