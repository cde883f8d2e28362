pub mod market;
