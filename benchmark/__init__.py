"""How fast anomap is and how much memory it takes, beside a bare loop, its nearest peer and the machine's own limit.

One file per subject; each has `keys` (what it will say) and `measure` (flat numbers). `suite` runs them one after the other.
"""
