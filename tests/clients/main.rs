//! The clients in `clients/`: what they do by themselves, and what is attributed to what they say.

#![expect(clippy::unwrap_used, reason = "a test")]

mod agent;
mod container;
mod example;
mod module;
mod score;
mod world;
