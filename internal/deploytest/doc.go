// Package deploytest holds the tests of what is in deploy: the rules and the dashboard show metrics that exist, every
// alert fires when it should and has its entry in the runbook, and the ways to deploy agree with the program and with
// each other. They need promtool, which .ci/install-tools installs. Those of the Helm chart that need helm are built
// with the tag "helm" only ("make helm"), since helm takes minutes to build.
package deploytest
