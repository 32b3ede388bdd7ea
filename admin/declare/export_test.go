package declare

// TableBytes is what a table holds on to.
func TableBytes(t *Table) int {
	sum := 8 * cap(t.slots)
	for _, c := range t.chunks {
		sum += cap(c)
	}
	return sum
}
