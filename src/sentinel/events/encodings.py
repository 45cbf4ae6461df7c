"""Encodings: what may be named as that of a text file."""

import codecs

_PROBE = 'id,amount\r\n0012;-1.50\t"a"\n'


def is_encoding(name: str) -> bool:
    """Whether files can be written in it: Python also has codecs that pack bytes, or names of computers.

    >>> is_encoding("latin-1"), is_encoding("utf-16"), is_encoding("hex"), is_encoding("punycode")
    (True, True, False, False)
    """
    try:
        if not codecs.lookup(name)._is_text_encoding:  # noqa: SLF001
            return False
        raw, decoder = _PROBE.encode(name), codecs.getincrementaldecoder(name)()
        read = "".join(decoder.decode(raw[n : n + 1], final=n == len(raw) - 1) for n in range(len(raw)))
    except (LookupError, ValueError, AttributeError, TypeError):
        return False
    return read == _PROBE and "\\n" not in raw.decode("latin-1")
