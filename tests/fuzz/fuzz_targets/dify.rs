#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sre_fuzz::lines("dify", data));
