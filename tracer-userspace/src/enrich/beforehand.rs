//! What engines say of containers that have no cgroup yet: between `create` and `start`.

use std::collections::{HashMap, VecDeque};

use super::engine::Answer;

/// Containers that are remembered. Each waits here for its cgroup, a moment as a rule.
const LIMIT: usize = 512;

/// The most recent answers about containers that were not there.
#[derive(Debug, Default)]
pub(super) struct Beforehand {
    answers: HashMap<String, Answer>,
    /// Oldest first; ids that were taken out meanwhile are passed over.
    order: VecDeque<String>,
    /// Answers that had to make room.
    pub(super) forgotten: u64,
}

impl Beforehand {
    pub(super) fn keep(&mut self, answer: Answer) {
        let id = answer.id.clone();
        if self.answers.insert(id.clone(), answer).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.forgotten += u64::from(self.answers.remove(&oldest).is_some());
        }
    }

    pub(super) fn take(&mut self, id: &str) -> Option<Answer> {
        self.answers.remove(id)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::engine::sockets::Trust, *};

    fn answer(number: usize) -> Answer {
        Answer {
            id: number.to_string(),
            info: None,
            trust: Trust::Machine,
        }
    }

    #[test]
    fn the_oldest_makes_room_and_is_counted() {
        let mut beforehand = Beforehand::default();
        (0..LIMIT + 3).for_each(|number| beforehand.keep(answer(number)));
        assert_eq!(beforehand.take("2"), None);
        assert_eq!(beforehand.take("3"), Some(answer(3)));
        assert_eq!(beforehand.take("3"), None);
        assert_eq!(
            (beforehand.forgotten, beforehand.answers.len()),
            (3, LIMIT - 1)
        );
        (0..10 * LIMIT).for_each(|_| {
            beforehand.keep(answer(7));
            beforehand.take("7");
        });
        assert!(beforehand.order.len() <= LIMIT);
    }
}
