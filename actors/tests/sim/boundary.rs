//! Each actor killed at each boundary.
