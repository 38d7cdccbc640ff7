//! Randomness, injected: nothing else in this crate draws a number.

use std::fmt::Debug;

/// A source of random bytes, fit for secrets.
pub trait Entropy: Debug + Send + Sync + 'static {
    /// Fills the buffer.
    fn fill(&self, buffer: &mut [u8]);
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// # Panics
    /// When the operating system cannot give random bytes: no session may begin then.
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the operating system gives random bytes");
    }
}

/// Random bytes as an array.
pub(crate) fn random<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}

/// A name that nothing else has: for a node, or one use of a ticket.
pub(crate) fn unique_name(entropy: &dyn Entropy) -> String {
    u128::from_be_bytes(random(entropy)).to_string()
}
