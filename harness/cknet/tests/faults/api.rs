pub const TRIALS: &[crate::Case] = &[];
