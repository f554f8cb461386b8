//! The command `stats`. A function ignores the rows without its field; without any, it has no value.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::event::{Row, compare, text};
use super::number;

/// Function over the rows of a group, and the name of its value.
#[derive(Clone, Debug)]
pub(super) struct Aggregate {
    pub(super) function: Function,
    pub(super) alias: String,
}

/// Function over the rows of a group.
#[derive(Clone, Debug)]
pub(super) enum Function {
    /// Number of rows, or of rows with the field.
    Count(Option<String>),
    CountDistinct(String),
    Sum(String),
    Average(String),
    Minimum(String),
    Maximum(String),
    /// Percentile, by the nearest rank.
    Percentile(String, f64),
    /// Value of the row with the first or the last `@timestamp`.
    Earliest(String),
    Latest(String),
}

/// Value by which rows are grouped.
#[derive(Clone, Debug)]
pub(super) enum Group {
    Field(String),
    /// Period of `@timestamp`.
    Bin {
        length: Duration,
        alias: String,
    },
}

impl Function {
    /// Returns a function and its name without an alias.
    pub(super) fn read(
        name: &str,
        field: Option<String>,
        argument: Option<String>,
    ) -> Result<(Self, String), String> {
        let inside = field.as_deref().unwrap_or("*").to_owned();
        let lower = name.to_ascii_lowercase();
        let function = match (lower.as_str(), field, &argument) {
            ("count", field, None) => Self::Count(field),
            ("count_distinct", Some(field), None) => Self::CountDistinct(field),
            ("sum", Some(field), None) => Self::Sum(field),
            ("avg", Some(field), None) => Self::Average(field),
            ("min", Some(field), None) => Self::Minimum(field),
            ("max", Some(field), None) => Self::Maximum(field),
            ("earliest", Some(field), None) => Self::Earliest(field),
            ("latest", Some(field), None) => Self::Latest(field),
            ("pct", Some(field), Some(percent)) => {
                let percent = percent.parse();
                let percent = percent.map_err(|_| format!("{argument:?} is no percentage"))?;
                Self::Percentile(field, percent)
            }
            _ => {
                return Err(format!(
                    "unknown function {name} of {inside} and {argument:?}"
                ));
            }
        };
        let shown = match argument {
            None => format!("{name}({inside})"),
            Some(argument) => format!("{name}({inside}, {argument})"),
        };
        Ok((function, shown))
    }

    fn of(&self, rows: &[&Row]) -> Option<Value> {
        let values = |field: &String| -> Vec<&Value> {
            rows.iter().filter_map(|row| row.get(field)).collect()
        };
        let numbers = |field: &String| -> Vec<f64> {
            let mut numbers: Vec<f64> = values(field).into_iter().filter_map(number).collect();
            numbers.sort_by(f64::total_cmp);
            numbers
        };
        match self {
            Self::Count(None) => Some(rows.len().into()),
            Self::Count(Some(field)) => Some(values(field).len().into()),
            Self::CountDistinct(field) => {
                let mut texts: Vec<String> = values(field).into_iter().map(text).collect();
                texts.sort();
                texts.dedup();
                Some(texts.len().into())
            }
            Self::Sum(field) => {
                let numbers = numbers(field);
                (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>().into())
            }
            Self::Average(field) => {
                let numbers = numbers(field);
                let count = f64::from(u32::try_from(numbers.len()).ok()?);
                (count > 0.0).then(|| (numbers.iter().sum::<f64>() / count).into())
            }
            Self::Minimum(field) => Some((*numbers(field).first()?).into()),
            Self::Maximum(field) => Some((*numbers(field).last()?).into()),
            Self::Percentile(field, percent) => {
                let numbers = numbers(field);
                let mut ranks = (1..=numbers.len()).zip(&numbers);
                let at = |rank: usize| {
                    let share = |number| u32::try_from(number).map_or(f64::NAN, f64::from);
                    share(rank) * 100.0 >= share(numbers.len()) * percent
                };
                let (_, number) = ranks.find(|(rank, _)| at(*rank))?;
                Some((*number).into())
            }
            Self::Earliest(field) => by_time(rows, field).first().copied().cloned(),
            Self::Latest(field) => by_time(rows, field).last().copied().cloned(),
        }
    }
}

/// Values of a field in the order of `@timestamp`.
fn by_time<'a>(rows: &[&'a Row], field: &str) -> Vec<&'a Value> {
    let mut rows: Vec<&Row> = rows.to_vec();
    rows.retain(|row| row.contains_key(field) && row.contains_key("@timestamp"));
    rows.sort_by(|a, b| compare(a.get("@timestamp"), b.get("@timestamp")));
    rows.into_iter().filter_map(|row| row.get(field)).collect()
}

impl Group {
    fn name(&self) -> &str {
        match self {
            Self::Field(field) => field,
            Self::Bin { alias, .. } => alias,
        }
    }

    fn of(&self, row: &Row) -> Option<Value> {
        match self {
            Self::Field(field) => row.get(field).cloned(),
            Self::Bin { length, .. } => {
                let time = row.get("@timestamp")?.as_u64()?;
                let length = u64::try_from(length.as_millis()).ok()?;
                Some((time - time % length).into())
            }
        }
    }
}

/// Returns one row for each group, in the order of the groups' first rows.
pub(super) fn aggregate(rows: &[Row], aggregates: &[Aggregate], groups: &[Group]) -> Vec<Row> {
    let mut places = BTreeMap::new();
    let mut members: Vec<(Vec<Option<Value>>, Vec<&Row>)> = Vec::new();
    for row in rows {
        let key: Vec<Option<Value>> = groups.iter().map(|group| group.of(row)).collect();
        let place = *places.entry(format!("{key:?}")).or_insert_with(|| {
            members.push((key, Vec::new()));
            members.len() - 1
        });
        members[place].1.push(row);
    }
    let of_group = |(key, rows): (Vec<Option<Value>>, Vec<&Row>)| {
        let names = groups.iter().map(Group::name);
        let keys = names.zip(key);
        let values = aggregates
            .iter()
            .map(|one| (&*one.alias, one.function.of(&rows)));
        let fields = keys.chain(values);
        fields
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    };
    members.into_iter().map(of_group).collect()
}
