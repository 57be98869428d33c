"""How ONNX files are quantized, a file each; `ARTIFACTS` in kdedge.recipe names them."""
