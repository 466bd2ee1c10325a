//! The end of what was written while nobody read it.

use std::collections::VecDeque;

/// A bounded list of pieces; the oldest go first, and are counted.
#[derive(Debug)]
pub(super) struct Tail<T> {
    pieces: VecDeque<(usize, T)>,
    bytes: usize,
    limit: usize,
    dropped: u64,
}

impl<T> Tail<T> {
    /// Keeps pieces of `limit` bytes altogether.
    pub(super) fn new(limit: usize) -> Self {
        Self { pieces: VecDeque::new(), bytes: 0, limit, dropped: 0 }
    }

    /// One more piece of `bytes`.
    pub(super) fn push(&mut self, bytes: usize, piece: T) {
        self.pieces.push_back((bytes, piece));
        self.bytes += bytes;
        while self.bytes > self.limit {
            let Some((bytes, _)) = self.pieces.pop_front() else { return };
            self.bytes -= bytes;
            self.dropped += 1;
        }
    }

    /// All pieces that are left, and how many are not; it is empty then.
    pub(super) fn take(&mut self) -> (u64, Vec<T>) {
        self.bytes = 0;
        (std::mem::take(&mut self.dropped), self.pieces.drain(..).map(|(_, piece)| piece).collect())
    }

    /// The pieces that are left; they stay.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().map(|(_, piece)| piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_are_counted() {
        let mut tail = Tail::new(10);
        for piece in 0..5 {
            tail.push(3, piece);
        }
        assert_eq!(tail.pieces().copied().collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(tail.take(), (2, vec![2, 3, 4]));
        assert_eq!(tail.take(), (0, vec![]));
        tail.push(11, 9);
        assert_eq!(tail.take(), (1, vec![]));
    }
}
