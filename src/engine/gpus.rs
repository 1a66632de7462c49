//! Which of the machine's GPUs an instance sees.

use std::collections::{BTreeSet, HashMap};

use mlctl_core::graph::InstanceIx;

/// The variable by which CUDA's programs choose, as every framework above it does.
pub(crate) const VARIABLE: &str = "CUDA_VISIBLE_DEVICES";

/// The GPUs of this machine, by index, and who has them. The scheduler sees to it that there are enough.
#[derive(Debug, Default)]
pub(crate) struct Gpus {
    there_are: bool,
    free: BTreeSet<u32>,
    taken: HashMap<InstanceIx, Vec<u32>>,
}

impl Gpus {
    /// `count` of them, all free.
    pub(crate) fn new(count: u32) -> Self {
        Self { there_are: count > 0, free: (0..count).collect(), taken: HashMap::new() }
    }

    /// Gives an instance as many as it asks for. `None`: there are none here, and nothing has to be hidden.
    pub(crate) fn take(&mut self, ix: InstanceIx, count: u32) -> Option<Vec<u32>> {
        if !self.there_are {
            return None;
        }
        let mine: Vec<u32> = (0..count).filter_map(|_| self.free.pop_first()).collect();
        self.taken.insert(ix, mine.clone());
        Some(mine)
    }

    /// Takes back what an instance has.
    pub(crate) fn give_back(&mut self, ix: InstanceIx) {
        self.free.extend(self.taken.remove(&ix).unwrap_or_default());
    }
}

/// What [`VARIABLE`] is for who has these. Who has none sees none, as in a container.
pub(crate) fn names(gpus: &[u32]) -> String {
    gpus.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_gpu_has_two_holders_and_who_asks_for_none_sees_none() {
        let mut gpus = Gpus::new(3);
        assert_eq!(gpus.take(InstanceIx(0), 2), Some(vec![0, 1]));
        assert_eq!(gpus.take(InstanceIx(1), 1), Some(vec![2]));
        assert_eq!(gpus.take(InstanceIx(2), 0), Some(Vec::new()));
        gpus.give_back(InstanceIx(0));
        assert_eq!((names(&[0, 1]), names(&[])), ("0,1".to_owned(), String::new()));
        assert_eq!(gpus.take(InstanceIx(3), 1), Some(vec![0]));
    }

    #[test]
    fn a_machine_without_gpus_hides_nothing() {
        assert_eq!(Gpus::new(0).take(InstanceIx(0), 0), None);
    }
}
