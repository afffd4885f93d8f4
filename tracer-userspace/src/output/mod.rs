//! What leaves the program: files, whole or not at all, and words for a terminal.

pub mod files;
pub mod terminal;
