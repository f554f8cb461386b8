//! Map from model names to values.

use super::ModelName;

/// Map from model names to values, as a sorted list. Models are few, so that a list is as fast as a tree, and it
/// saves several kilobytes of binary for each type of value.
#[derive(Clone, Debug)]
pub struct ByName<T>(Vec<(ModelName, T)>);

impl<T> ByName<T> {
    /// Returns the value of a model.
    #[must_use]
    pub fn get(&self, name: &ModelName) -> Option<&T> {
        let mut all = self.0.iter();
        all.find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Returns the names in order.
    pub fn names(&self) -> impl Iterator<Item = &ModelName> {
        self.0.iter().map(|(name, _)| name)
    }

    /// Returns all names and values, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = &(ModelName, T)> {
        self.0.iter()
    }
}

/// Keeps the last value of a repeated name.
impl<T> FromIterator<(ModelName, T)> for ByName<T> {
    fn from_iter<I: IntoIterator<Item = (ModelName, T)>>(values: I) -> Self {
        let mut all: Vec<(ModelName, T)> = Vec::new();
        for (name, value) in values {
            let index = all.partition_point(|(known, _)| *known < name);
            match all.get_mut(index) {
                Some((known, before)) if *known == name => *before = value,
                _ => all.insert(index, (name, value)),
            }
        }
        Self(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_ordered_by_name_and_the_last_one_wins() {
        let name = |text| ModelName::parse(text).unwrap();
        let given = [("b", 1), ("c", 2), ("a", 3), ("b", 4)];
        let all: ByName<i32> = given
            .map(|(text, value)| (name(text), value))
            .into_iter()
            .collect();
        let names: Vec<&str> = all.names().map(ModelName::as_str).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(all.get(&name("b")), Some(&4));
        assert_eq!(all.get(&name("d")), None);
    }
}
