//! A list of a few plain values that lies where its owner lies: no pointer to follow, nothing to allocate.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Clone, Copy)]
pub(crate) struct Few<T, const N: usize> {
    items: [T; N],
    len: u8,
}

impl<T: Copy + Default, const N: usize> Few<T, N> {
    /// Appends `item`; where the list is full the first gives way.
    #[inline]
    pub(crate) fn push(&mut self, item: T) {
        if usize::from(self.len) == N {
            self.items.rotate_left(1);
            self.items[N - 1] = item;
        } else {
            self.items[usize::from(self.len)] = item;
            self.len += 1;
        }
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        usize::from(self.len) == N
    }

    pub(crate) fn clear(&mut self) {
        *self = Few::default();
    }
}

impl<T, const N: usize> std::ops::Deref for Few<T, N> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.items[..usize::from(self.len)]
    }
}

impl<T: Copy + Default, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Few { items: [T::default(); N], len: 0 }
    }
}

impl<T: std::fmt::Debug, const N: usize> std::fmt::Debug for Few<T, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: PartialEq, const N: usize> PartialEq for Few<T, N> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T: Serialize, const N: usize> Serialize for Few<T, N> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self[..].serialize(to)
    }
}

impl<'de, T: Copy + Default + Deserialize<'de>, const N: usize> Deserialize<'de> for Few<T, N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let items = Vec::<T>::deserialize(from)?;
        if items.len() > N {
            return Err(D::Error::invalid_length(items.len(), &"a list of fewer items"));
        }
        let mut few = Few::default();
        items.into_iter().for_each(|item| few.push(item));
        Ok(few)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_gives_way_and_what_does_not_fit_is_refused() {
        let mut few = Few::<u32, 3>::default();
        (1..=5).for_each(|item| few.push(item));
        assert!(few[..] == [3, 4, 5] && few.is_full());
        let bytes = postcard::to_allocvec(&few).expect("plain data");
        assert_eq!(postcard::from_bytes::<Few<u32, 3>>(&bytes), Ok(few));
        assert!(postcard::from_bytes::<Few<u32, 2>>(&bytes).is_err());
    }
}
