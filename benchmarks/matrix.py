"""Print which invariants of a throttle each seeded regression breaks: docs/throttle.md.

python -m benchmarks.matrix > docs/throttle.md
"""

from tests.matrix.throttles import matrix, page

if __name__ == "__main__":
    print(page(matrix()))
