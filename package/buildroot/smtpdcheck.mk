################################################################################
#
# smtpdcheck
#
################################################################################

SMTPDCHECK_VERSION = 1.1.0
# The plain tarball, in this folder until there is an address to put here. The
# default of SOURCE would end in -cargo4.tar.gz, although check-package says that
# this is the default.
SMTPDCHECK_SOURCE = smtpdcheck-$(SMTPDCHECK_VERSION).tar.gz
SMTPDCHECK_SITE = $(abspath $(SMTPDCHECK_PKGDIR))
SMTPDCHECK_SITE_METHOD = file
SMTPDCHECK_LICENSE = MIT
SMTPDCHECK_LICENSE_FILES = LICENSE

# It reads what strangers send. Buildroot would turn the checks off.
SMTPDCHECK_CARGO_ENV = CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS="true"

define SMTPDCHECK_USERS
	smtpdcheck -1 smtpdcheck -1 * - - - smtpdcheck
endef

# For --cache.
define SMTPDCHECK_PERMISSIONS
	/var/lib/smtpdcheck d 700 smtpdcheck smtpdcheck - - - - -
endef

$(eval $(cargo-package))
