//! What there is of each model, found by its name.

use super::ModelName;

/// A value for each model. They are few, so that a list in the order of the names is as fast as any map; and it is one
/// piece of code for all values, where a tree of each kind is several kilobytes of the binary.
#[derive(Clone, Debug)]
pub struct ByName<T>(Vec<(ModelName, T)>);

impl<T> ByName<T> {
    /// The value of this model.
    #[must_use]
    pub fn get(&self, name: &ModelName) -> Option<&T> {
        let mut all = self.0.iter();
        all.find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &ModelName> {
        self.0.iter().map(|(name, _)| name)
    }

    /// All models and their values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = &(ModelName, T)> {
        self.0.iter()
    }
}

/// Of two values for one name the later one stays.
impl<T> FromIterator<(ModelName, T)> for ByName<T> {
    fn from_iter<I: IntoIterator<Item = (ModelName, T)>>(values: I) -> Self {
        let mut all: Vec<(ModelName, T)> = Vec::new();
        for (name, value) in values {
            let place = all.partition_point(|(known, _)| *known < name);
            match all.get_mut(place) {
                Some((known, before)) if *known == name => *before = value,
                _ => all.insert(place, (name, value)),
            }
        }
        Self(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_by_their_names_in_order_and_the_last_one_stays() {
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
