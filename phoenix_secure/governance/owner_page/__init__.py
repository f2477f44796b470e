"""The owner's page: what waits, what was spent and what is going on at one site, in a browser.

It is for reading. No request changes anything but the page's own session, and nothing here reads
a key: plans are approved and rejected on the command line, which the page spells out. Served on
the loopback alone, to whoever has the link that ``site ui`` printed.
"""
