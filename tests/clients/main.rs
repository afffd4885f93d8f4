//! The clients in `clients/`: what they do by themselves, and what is attributed to what they say.

mod agent;
mod module;
mod score;
mod world;
