//! Making a graph, and making it grow.

use std::collections::HashMap;

use super::{Dep, Edge, Graph, Group, GroupIx, InstanceIx, KeyPart, Members, PLACEHOLDER, Projection, TextIx, ValueIx};
use crate::value::Value;
use crate::workflow::StepIx;

impl Graph {
    /// An edge to `producer`, matched on the axes that it shares with `consumer`, but for `picks`. The source of an
    /// axis has no consumer: it is matched on nothing.
    pub fn edge(&mut self, consumer: Option<StepIx>, producer: StepIx, picks: &[(String, Value)]) -> Edge {
        let mut axes = Vec::new();
        let mut key = Vec::new();
        let from = consumer.map(|consumer| self.steps[consumer.0 as usize].axes.clone()).unwrap_or_default();
        for (position, axis) in self.steps[producer.0 as usize].axes.iter().enumerate() {
            let part = match picks.iter().find(|(name, _)| **name == **axis) {
                Some((_, value)) => KeyPart::Fixed(self.values.intern_text(value)),
                None => match from.iter().position(|name| name == axis) {
                    Some(position) => KeyPart::Axis(position),
                    None => continue,
                },
            };
            axes.push(position);
            key.push(part);
        }
        Edge { producer, projection: self.projection(producer, axes), key }
    }

    fn projection(&mut self, producer: StepIx, axes: Vec<usize>) -> u32 {
        let node = &mut self.steps[producer.0 as usize];
        let found = node.projections.iter().position(|known| known.axes == axes);
        let position = found.unwrap_or_else(|| {
            node.projections.push(Projection { axes, index: HashMap::new() });
            node.projections.len() - 1
        });
        if found.is_none() && matches!(node.members, Members::Known { .. }) {
            self.index(producer, position);
        }
        u32::try_from(position).unwrap_or(u32::MAX)
    }

    /// Files the known members of a step under a projection's keys.
    fn index(&mut self, producer: StepIx, projection: usize) {
        let node = &mut self.steps[producer.0 as usize];
        let Members::Known { first, len } = node.members else { return };
        let width = node.axes.len();
        let Projection { axes, index } = &mut node.projections[projection];
        // Only where every axis is in the key is there one member at most.
        let single = axes.len() == width;
        let mut key: Vec<TextIx> = Vec::with_capacity(axes.len());
        for row in 0..len {
            let coords = &node.coords[row as usize * width..][..width];
            key.clear();
            key.extend(axes.iter().map(|&axis| self.values.text_ix(coords[axis])));
            let instance = InstanceIx(first.0 + row);
            let group = match index.get(key.as_slice()) {
                Some(Dep::Group(group)) => *group,
                _ if single => {
                    index.insert(key.as_slice().into(), Dep::Instance(instance));
                    continue;
                }
                _ => {
                    let group = new_group(&mut self.groups, producer, false);
                    index.insert(key.as_slice().into(), Dep::Group(group));
                    group
                }
            };
            self.groups[group.0 as usize].members.push(instance);
            self.grouped.add(instance.0, group.0);
        }
    }

    /// What an edge of the step at these coordinates leads to.
    fn resolve(&mut self, edge: &Edge, coords: &[ValueIx]) -> Dep {
        let node = &mut self.steps[edge.producer.0 as usize];
        match node.members {
            Members::Absent => return Dep::None,
            Members::StoodIn(placeholder) => return Dep::Instance(placeholder),
            Members::Known { .. } | Members::Unknown(_) => {}
        }
        let part = |part: &KeyPart| match *part {
            KeyPart::Axis(axis) => self.values.text_ix(coords[axis]),
            KeyPart::Fixed(text) => text,
        };
        let key: Vec<TextIx> = edge.key.iter().map(part).collect();
        let index = &mut node.projections[edge.projection as usize].index;
        if let Some(&found) = index.get(key.as_slice()) {
            return found;
        }
        match node.members {
            Members::Unknown(_) => {
                let group = Dep::Group(new_group(&mut self.groups, edge.producer, true));
                index.insert(key.into(), group);
                group
            }
            _ => Dep::None,
        }
    }

    /// Gives a step its edges. Before its instances.
    pub fn set_edges(&mut self, step: StepIx, edges: Vec<Edge>) {
        self.steps[step.0 as usize].edges = edges;
    }

    /// Gives a step a placeholder that depends on the sources of its axes.
    pub fn add_placeholder(&mut self, step: StepIx, sources: &[Edge]) -> InstanceIx {
        let placeholder = self.push(step, PLACEHOLDER);
        let deps: Vec<Dep> = sources.iter().map(|edge| self.resolve(edge, &[])).collect();
        for &dep in &deps {
            self.link(placeholder, dep);
        }
        let node = &mut self.steps[step.0 as usize];
        node.members = Members::Unknown(placeholder);
        node.sources = deps;
        placeholder
    }

    /// Gives a step its instances, a row of `coords` each; returns the groups that are complete by that.
    pub fn expand(&mut self, step: StepIx, coords: Vec<ValueIx>, len: u32) -> Vec<GroupIx> {
        let first = InstanceIx(u32::try_from(self.instances.len()).unwrap_or(u32::MAX));
        let edges = std::mem::take(&mut self.steps[step.0 as usize].edges);
        let width = self.steps[step.0 as usize].axes.len();
        let mut deps = Vec::with_capacity(len as usize * edges.len());
        for row in 0..len {
            let instance = self.push(step, row);
            let coords = &coords[row as usize * width..][..width];
            for edge in &edges {
                let dep = self.resolve(edge, coords);
                self.link(instance, dep);
                deps.push(dep);
            }
        }
        let node = &mut self.steps[step.0 as usize];
        node.edges = edges;
        node.coords = coords;
        node.deps = deps;
        node.members = Members::Known { first, len };
        for projection in 0..node.projections.len() {
            self.index(step, projection);
        }
        self.close(step)
    }

    /// Makes the placeholder stand for its whole step; returns the groups that are complete by that.
    pub fn stand_in(&mut self, placeholder: InstanceIx) -> Vec<GroupIx> {
        let step = self.step(placeholder);
        self.steps[step.0 as usize].members = Members::StoodIn(placeholder);
        let groups = self.close(step);
        for &group in &groups {
            self.groups[group.0 as usize].members.push(placeholder);
            self.grouped.add(placeholder.0, group.0);
        }
        groups
    }

    fn close(&mut self, step: StepIx) -> Vec<GroupIx> {
        let mut closed = Vec::new();
        for projection in &self.steps[step.0 as usize].projections {
            for dep in projection.index.values() {
                if let Dep::Group(group) = *dep
                    && std::mem::take(&mut self.groups[group.0 as usize].open)
                {
                    closed.push(group);
                }
            }
        }
        // The index is a hash map: its order must not be seen.
        closed.sort_unstable();
        closed
    }

    fn push(&mut self, step: StepIx, row: u32) -> InstanceIx {
        let instance = InstanceIx(u32::try_from(self.instances.len()).unwrap_or(u32::MAX));
        self.instances.push((step, row));
        instance
    }

    fn link(&mut self, instance: InstanceIx, dep: Dep) {
        match dep {
            Dep::Instance(on) => self.dependents.add(on.0, instance.0),
            Dep::Group(on) => self.waiting.add(on.0, instance.0),
            Dep::None => {}
        }
    }
}

fn new_group(groups: &mut Vec<Group>, step: StepIx, open: bool) -> GroupIx {
    let group = GroupIx(u32::try_from(groups.len()).unwrap_or(u32::MAX));
    groups.push(Group { step, members: Vec::new(), open });
    group
}
