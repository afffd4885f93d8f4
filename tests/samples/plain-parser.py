#!/usr/bin/env python3
"""What a plain script does with a log of connections: one JSON object a line, of which dest_ip and
dest_port are looked at. Prints a rule for each address and port. The benchmark measures against it."""

import ipaddress
import json
import sys
from collections import defaultdict


def destinations(path):
    found = defaultdict(set)
    with open(path) as log:
        for line in log:
            try:
                record = json.loads(line.strip())
                address = record.get("dest_ip")
                port = record.get("dest_port")
                if address and port:
                    found[str(ipaddress.ip_address(address))].add(int(port))
            except ValueError:
                continue
    return found


def main():
    for address, ports in sorted(destinations(sys.argv[1]).items()):
        for port in sorted(ports):
            print(f"-A OUTPUT -d {address}/32 -p tcp --dport {port} -j ACCEPT")


if __name__ == "__main__":
    main()
