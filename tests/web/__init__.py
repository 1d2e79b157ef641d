"""The page, its JavaScript module and the runtime in WebAssembly."""
