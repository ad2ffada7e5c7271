#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| semj_fuzz::blocks::check(data));
