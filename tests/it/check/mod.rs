//! Which server is the answer, and when that is known.

mod deadline;
mod doubtful;
mod duplicates;
mod interfaces;
mod jobs;
mod need;
mod shortage;
mod stops;
mod verdict;
