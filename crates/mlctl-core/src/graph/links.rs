//! Lists of indices by index, in one allocation: what adjacency needs when it grows.

/// For each index a list of others, in the order of adding.
#[derive(Debug, Clone, Default)]
pub struct Links {
    /// First and last link of each list.
    ends: Vec<(u32, u32)>,
    /// The target and the next link.
    links: Vec<(u32, u32)>,
}

const END: u32 = u32::MAX;

impl Links {
    /// Adds `to` to the list of `from`.
    pub fn add(&mut self, from: u32, to: u32) {
        let from = from as usize;
        if self.ends.len() <= from {
            self.ends.resize(from + 1, (END, END));
        }
        let link = u32::try_from(self.links.len()).unwrap_or(END);
        self.links.push((to, END));
        let (first, last) = &mut self.ends[from];
        if *first == END {
            *first = link;
        } else {
            self.links[*last as usize].1 = link;
        }
        *last = link;
    }

    /// The list of `from`.
    pub fn of(&self, from: u32) -> impl Iterator<Item = u32> {
        let mut link = self.ends.get(from as usize).map_or(END, |&(first, _)| first);
        std::iter::from_fn(move || {
            let &(to, next) = self.links.get(link as usize)?;
            link = next;
            Some(to)
        })
    }
}
