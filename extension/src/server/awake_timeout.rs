//! How long a sender may be silent or slow, freezes not counted. A sender that was frozen as well has had no chance yet.

pub(super) use crate::clock::AwakeTimeout as Patience;
