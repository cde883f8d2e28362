//! The protocol against what the market's TypeScript peers compute: recorded vectors, npm superjson itself, and properties.

mod hostile;
mod interop;
mod offers;
mod values;
mod vectors;
