"""The quantizations of ONNX files, one module each; `ARTIFACTS` in kdedge.recipe names them."""
