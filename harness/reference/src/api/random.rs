//! Random identifiers: uids, suffixes of generated names, starting points of allocations.

use tokio_rustls::rustls::crypto::ring::default_provider;

fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The system's generator does not fail on Linux once it is seeded; zeros would only make a name collide.
    let _ = default_provider().secure_random.fill(&mut bytes);
    bytes
}

/// A random (version 4) UUID.
pub fn uid() -> String {
    let mut bytes: [u8; 16] = bytes();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Five letters and digits, without vowels and look-alikes, as generated names end in.
pub fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    bytes::<5>().iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

/// A number below `bound`, which is not zero.
pub fn below(bound: u32) -> u32 {
    u32::from_be_bytes(bytes()) % bound.max(1)
}
