// Package imports holds the test of which package may import which.
package imports
