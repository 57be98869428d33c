"""The quantizations of LiteRT files, one module each; `ARTIFACTS` in kdedge.recipe names them."""
