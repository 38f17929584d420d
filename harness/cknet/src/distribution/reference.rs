use super::Distribution;
