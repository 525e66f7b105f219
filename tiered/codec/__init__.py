"""Values to bytes and back: serialise, compress, sign, and the envelope around them."""
