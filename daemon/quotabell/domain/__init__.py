"""The rules of counting and ringing: pure, standard library only, ``now`` is an argument."""
