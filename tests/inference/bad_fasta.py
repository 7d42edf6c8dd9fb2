"""FASTA files that cannot be predicted: the name of the mistake, the file's text, and words that are said.

``DIR`` is the folder of the case. Of ``test_bad_input.py``.
"""

VH = (
    "QVQLQESGPGLVAPSQSLSITCTVSGFSLTGYGVNWVRQPPGKGLEWLGMIWGDGNTDYNSALKSRLSISKDNSKSQVFLKMNSLHTDDTARYYC"
    "ARERDYRLDYWGQGTTLTVSS"
)
VL = (
    "DIVLTQSPASLSASVGETVTITCRASGNIHNYLAWYQQKQGKSPQLLVYYTTTLADGVPSRFSGSGSGTQYSLKINSLQPEDFGSYYCQHFWSTPRTF"
    "GGGTKLEIK"
)
FV = f"{VH}:{VL}"
UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"
NOT_AN_FV = "--openfold_checkpoint_path FILE"
ROWS = [
    # The file
    ("an empty file", "", "DIR/fasta/bad.fasta: the file is empty; write a line '>NAME'"),
    ("blanks alone", " \n\t\n", "the file is empty; write a line '>NAME'"),
    ("no record", f"{FV}\n", "line 1: expected a line that begins with '>', found 'QVQLQ"),
    ("a file that is packed", b"\x1f\x8b\x08\x00", "byte 1 is not UTF-8 text", "not compressed"),
    ("UTF-16", f">a\n{FV}\n".encode("utf-16"), "byte 0 is not UTF-8 text; save the file as plain text"),
    # The name
    ("two chains of one name", f">x\n{FV}\n>x_1\n{VH}\n", "two chains are named 'x_1': change one"),
    ("a slash in the name", f">a/b\n{FV}\n", "'a/b' cannot name output files: use letters, digits"),
    ("two dots for a name", f">..\n{FV}\n", "'..' cannot name output files: use letters, digits"),
    ("a name out of the folder", f">../x\n{FV}\n", "'../x' cannot name output files"),
    ("no name", f">\n{FV}\n", "line 1: the '>' line has no name"),
    # The letters
    ("a digit", f">a\n{VH}\n{VL[:5]}1{VL[5:]}\n", "'1' at line 3, column 6 is not an amino acid: use one-"),
    ("a gap", f">a\n{VH[:5]}-{VH[5:]}:{VL}\n", "'-' at line 2, column 6", "remove the gaps"),
    ("a stop inside", f">a\n{VH}*{VL}\n", "'*' before the end of the chain is not an amino acid"),
    ("a letter beyond ASCII", f">a\n{VH}Å:{VL}\n", "'Å' at line 2, column 117 is not an amino acid"),
    *(
        (
            f"an {letter}",
            f">a\n{VH[:40]}{letter}{VH[41:]}:{VL}\n",
            f"has '{letter}' at residue 41",
            NOT_AN_FV,
        )
        for letter in "BJOUXZ"
    ),
    # The length
    ("no residue", ">a\n", "record 'a': the sequence is empty: write its amino acid letters"),
    ("one residue", ">a\nM\n", "the target has one residue, 'M', and OpenFold predicts two or more"),
    # What FlashABB serves
    ("a heavy chain alone", f">a\n{VH}\n", "heavy chain without its partner", "or as VH:VL"),
    ("two heavy chains", f">a\n{VH}:{VH}\n", "target 'a'", "heavy", NOT_AN_FV),
    ("no antibody", f">a\n{UBIQUITIN}\n", "has no antibody variable domain", NOT_AN_FV),
]
