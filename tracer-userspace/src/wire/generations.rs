//! `Generations`: a map of bounded size that forgets what was not used for longest.

use std::{
    collections::{HashMap, hash_map},
    hash::{BuildHasher, Hash, RandomState},
};

/// Two maps: when the young one is full, the old one is given away and the young one becomes old.
/// What is used moves to the young one. So between one and two times `limit` entries are kept, and
/// whatever is given away was not used while `limit` others were.
#[derive(Debug)]
pub struct Generations<K, V, S = RandomState> {
    young: HashMap<K, V, S>,
    old: HashMap<K, V, S>,
    limit: usize,
}

impl<K: Eq + Hash + Copy, V, S: BuildHasher + Default> Generations<K, V, S> {
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            limit,
        }
    }

    /// What is kept for a key, which is thereby used.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self.young.entry(*key) {
            hash_map::Entry::Occupied(entry) => Some(entry.into_mut()),
            hash_map::Entry::Vacant(entry) => {
                let value = self.old.remove(key)?;
                Some(entry.insert(value))
            }
        }
    }

    /// What is kept for a key, which is made if need be. What has to make room is forgotten.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let known = self.old.remove(&key);
        if known.is_none() && !self.young.contains_key(&key) && self.young.len() >= self.limit {
            self.old = std::mem::take(&mut self.young);
        }
        let entry = self.young.entry(key);
        entry.or_insert_with(|| known.unwrap_or_else(make))
    }

    /// Keeps a value; what was forgotten for it comes back.
    pub fn insert(&mut self, key: K, value: V) -> HashMap<K, V, S> {
        let mut forgotten = HashMap::default();
        if self.young.len() >= self.limit {
            let young = std::mem::take(&mut self.young);
            forgotten = std::mem::replace(&mut self.old, young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
        forgotten
    }

    /// Forgets a key, and returns what was kept for it.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// Takes out what `is_due`, in no order.
    pub fn take_if(&mut self, is_due: impl Fn(&V) -> bool) -> Vec<(K, V)> {
        let old = self.old.extract_if(|_, value| is_due(value));
        old.chain(self.young.extract_if(|_, value| is_due(value)))
            .collect()
    }

    /// Everything, in no order; nothing is thereby used.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.old.iter().chain(&self.young)
    }

    /// Everything, in no order.
    pub fn drain(&mut self) -> impl Iterator<Item = (K, V)> {
        let young = std::mem::take(&mut self.young);
        std::mem::take(&mut self.old).into_iter().chain(young)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays() {
        let mut map = Generations::<_, _>::new(2);
        for key in 0..4 {
            assert!(map.insert(key, key).is_empty());
        }
        assert_eq!(map.get_mut(&0), Some(&mut 0));
        let forgotten = map.insert(4, 4);
        assert_eq!(forgotten.keys().collect::<Vec<_>>(), [&1]);
        assert_eq!(map.get_mut(&1), None);
        let mut left: Vec<i32> = map.drain().map(|(key, _)| key).collect();
        left.sort_unstable();
        assert_eq!(left, [0, 2, 3, 4]);
    }
}
